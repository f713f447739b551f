"""The stretch of log in which a dedup key counts (rule 2). Pure: it knows what it was shown.

The window of a record is the last `records` records of its partition, none taken by the log more
than `window_ms` before it. Every record counts, also those that are duplicates themselves.
"""

from array import array
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

CLOCKS_MS = 60_000


class DedupSettings(BaseModel):
    """How far back a dedup key counts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    window_seconds: Annotated[float, Field(gt=0, le=31_536_000)] = 86_400.0
    window_records: Annotated[int, Field(ge=1, le=1_000_000_000)] = 2_400_000
    """All partitions together."""

    def per_partition(self, partitions: int) -> int:
        """Return how many records one partition's window holds."""
        return max(1, self.window_records // partitions)


class Window:
    """Keys of the latest records of one partition, shown to it in the log's order."""

    __slots__ = (
        "_copies",
        "_cut_ms",
        "_head",
        "_keys",
        "_marks",
        "_offsets",
        "_records",
        "_times",
        "_window",
    )

    def __init__(self, records: int, window_ms: int) -> None:
        self._records = records
        self._window = window_ms
        self._marks: set[int] = set()
        self._copies: dict[int, int] = {}
        """Of the few marks that the window holds more than once, how often beyond that."""
        self._keys = array("q")
        self._offsets = array("q")
        self._times = array("q")
        self._head = 0
        self._cut_ms: int | None = None

    def __len__(self) -> int:
        return len(self._keys) - self._head

    def see(self, offset: int, time_ms: int, key: str) -> bool:
        """Take in a record; return whether an earlier one in its window has the same key.

        `time_ms` is the log's. A key is kept as 60 bits of its hash, the most that Python holds in
        32 bytes: two keys of a window of 2.4 million meet with a chance of 2.5e-6, and nobody
        outside can make them.
        """
        self._forget(offset, time_ms)
        mark = hash(key) >> 4
        repeated = mark in self._marks
        if repeated:
            self._copies[mark] = self._copies.get(mark, 0) + 1
        else:
            self._marks.add(mark)
        self._keys.append(mark)
        self._offsets.append(offset)
        self._times.append(time_ms)
        return repeated

    def pass_over(self, offset: int, time_ms: int) -> None:
        """Take in a record that has no key (it could not be read)."""
        self.see(offset, time_ms, f"\0{offset}")

    def may_be_copy(self, happened_ms: int) -> bool:
        """Whether a record of that age may have its first copy outside the window.

        So it is where the count, not the time, cut the window short of the event (rule 2).
        """
        return self._cut_ms is not None and happened_ms <= self._cut_ms

    def covers(self, since_ms: int) -> bool:
        """Whether every record that the log took from `since_ms` on is in the window.

        Others' clocks may be CLOCKS_MS off the log's.
        """
        if not len(self) or self.may_be_copy(since_ms - CLOCKS_MS):
            return False
        return since_ms - CLOCKS_MS >= self._times[-1] - self._window

    def first_offset(self) -> int:
        """Return the offset of the oldest record in the window (0 when it is empty)."""
        return self._offsets[self._head] if len(self) else 0

    def reach_ms(self) -> int | None:
        """Return the log's time of the oldest record in the window; None when it is empty."""
        return self._times[self._head] if len(self) else None

    def _forget(self, offset: int, time_ms: int) -> None:
        """Drop what lies outside the window of the record at `offset`."""
        oldest_ms = time_ms - self._window
        lowest = offset - self._records
        offsets, times = self._offsets, self._times
        head, end = self._head, len(offsets)
        while head < end and (offsets[head] < lowest or times[head] < oldest_ms):
            if times[head] >= oldest_ms:
                self._cut_ms = times[head]
            self._leave(self._keys[head])
            head += 1
        self._head = head
        if self._cut_ms is not None and self._cut_ms < oldest_ms:
            self._cut_ms = None
        self._compact()

    def _leave(self, mark: int) -> None:
        copies = self._copies.pop(mark, 0)
        if not copies:
            self._marks.remove(mark)
        elif copies > 1:
            self._copies[mark] = copies - 1

    def _compact(self) -> None:
        """Give back the arrays' dead front once it is half of them."""
        if self._head > 1024 and self._head * 2 > len(self._keys):  # noqa: PLR2004 - a page or so
            for column in (self._keys, self._offsets, self._times):
                del column[: self._head]
            self._head = 0
