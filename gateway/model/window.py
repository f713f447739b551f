"""The stretch of log in which a dedup key counts (rule 2). Pure: it knows what it was shown.

The window of a record is the last `records` records of its partition, none taken by the log more
than `window_ms` before it. Every record counts, also those that are duplicates themselves.
"""

from array import array
from bisect import bisect_left
from collections import defaultdict, deque
from functools import partial
from secrets import token_hex
from struct import Struct
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

CLOCKS_MS = 60_000
WINDOW_KEY_BYTES = 45
"""A record of a window in memory; measured with a million of them (`make bench`)."""
SHELVES = 4096
PAGE_BYTES = 1 << 16

_Row = tuple[int, int, int, int]
"""Of a record its offset, its time, its key's mark and shelf."""
_RECORD = Struct("<qqqH")
_PACK = _RECORD.pack
_FOR_MARK, _FOR_SHELF = token_hex(8), token_hex(8)
"""Put in front of a key to make two hashes of it. Python's hash of a text is keyed (SipHash), but
with the same key everywhere where somebody sets PYTHONHASHSEED; these are never the same."""


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
    """Keys of the latest records of one partition, shown to it in the log's order.

    Of a key it keeps 76 bits of two keyed hashes: 64 are its mark, 12 the shelf that the mark
    stands on. So a key meets another one of 2.4 million with a chance of 3e-17, and nobody outside
    can make two meet. Shelves are sorted arrays: a set would take three times the memory, and
    stop everything while it grows.
    """

    __slots__ = (
        "_cut_ms",
        "_head",
        "_latest_ms",
        "_length",
        "_oldest",
        "_page",
        "_pages",
        "_records",
        "_shelves",
        "_window",
    )

    def __init__(self, records: int, window_ms: int) -> None:
        self._records = records
        self._window = window_ms
        self._shelves: defaultdict[int, array[int]] = defaultdict(partial(array, "q"))
        self._pages: deque[bytearray] = deque()
        """Rows in the log's order, packed."""
        self._page = self._begin_page()
        """The last of them."""
        self._head = 0
        """Where the oldest record begins in the first page."""
        self._oldest: _Row | None = None
        """The record there."""
        self._length = 0
        self._latest_ms = 0
        self._cut_ms: int | None = None

    def __len__(self) -> int:
        return self._length

    def see(self, offset: int, time_ms: int, key: str) -> bool:
        """Take in a record; return whether an earlier one in its window has the same key.

        `time_ms` is the log's.
        """
        self._latest_ms = time_ms
        oldest = self._oldest
        # What every record passes by is written out: a call costs as much as a search.
        if oldest is not None and (
            oldest[0] < offset - self._records or oldest[1] < time_ms - self._window
        ):
            self._forget(offset)
        mark, number = hash(_FOR_MARK + key), hash(_FOR_SHELF + key) % SHELVES
        shelf = self._shelves[number]
        at = bisect_left(shelf, mark)
        repeated = at < len(shelf) and shelf[at] == mark
        shelf.insert(at, mark)
        page = self._page
        if len(page) >= PAGE_BYTES:
            page = self._begin_page()
        page += _PACK(offset, time_ms, mark, number)
        if self._oldest is None:
            self._oldest = (offset, time_ms, mark, number)
        self._length += 1
        return repeated

    def pass_over(self, offset: int, time_ms: int) -> None:
        """Take in a record that has no key (it could not be read)."""
        self.see(offset, time_ms, f"\0{offset}")

    def may_be_copy(self, happened_ms: int) -> bool:
        """Whether a record of that age may have its first copy outside the window.

        So it is where the count, not the time, cut the window short of the event (rule 2).
        """
        if self._cut_ms is None or self._cut_ms < self._latest_ms - self._window:
            return False
        return happened_ms <= self._cut_ms

    def covers(self, since_ms: int) -> bool:
        """Whether every record that the log took from `since_ms` on is in the window.

        Others' clocks may be CLOCKS_MS off the log's.
        """
        if not self._length or self.may_be_copy(since_ms - CLOCKS_MS):
            return False
        return since_ms - CLOCKS_MS >= self._latest_ms - self._window

    def first_offset(self) -> int:
        """Return the offset of the oldest record in the window (0 when it is empty)."""
        return self._oldest[0] if self._oldest else 0

    def reach_ms(self) -> int | None:
        """Return the log's time of the oldest record in the window; None when it is empty."""
        return self._oldest[1] if self._oldest else None

    def _begin_page(self) -> bytearray:
        self._page = bytearray()
        self._pages.append(self._page)
        return self._page

    def _forget(self, offset: int) -> None:
        """Drop what lies outside the window of the latest record, which is at `offset`."""
        oldest_ms = self._latest_ms - self._window
        first = offset - self._records
        while (oldest := self._oldest) is not None and (oldest[0] < first or oldest[1] < oldest_ms):
            if oldest[1] >= oldest_ms:
                self._cut_ms = oldest[1]
            self._leave(oldest[2], oldest[3])

    def _leave(self, mark: int, number: int) -> None:
        """Drop the oldest record, which has this mark on this shelf."""
        shelf = self._shelves[number]
        del shelf[bisect_left(shelf, mark)]
        if not shelf:
            del self._shelves[number]
        self._length -= 1
        self._head += _RECORD.size
        if self._head == len(self._pages[0]):
            self._pages.popleft()
            self._head = 0
            if not self._pages:
                self._begin_page()
        page = self._pages[0]
        self._oldest = _RECORD.unpack_from(page, self._head) if page else None
