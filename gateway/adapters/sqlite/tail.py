"""The end of one log: what it holds, and its newest segments in memory.

Deliver normally reads what was just written; then no file is read and nothing is decoded.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from gateway.adapters.sqlite.segment import records
from gateway.ports import Record, Span


class _Segment(NamedTuple):
    time_ms: int
    values: Sequence[bytes]
    size: int


_DROPPED = _Segment(0, (), 0)


class Tail:
    """Keeps segments of `room_bytes` together, the oldest going first."""

    def __init__(self, room_bytes: int) -> None:
        self.span = Span(0, 0)
        self._room_bytes = room_bytes
        self._firsts: list[int] = []
        self._segments: list[_Segment] = []
        self._head = 0
        """Before it the lists' entries are dropped, but not yet taken out."""
        self._size = 0
        self._next = 0

    def append(self, first: int, time_ms: int, values: Sequence[bytes], size: int) -> None:
        """Take in a segment that is durable."""
        if first != self._next:  # a write that failed may have been one nonetheless
            self._clear()
        self._firsts.append(first)
        self._segments.append(_Segment(time_ms, values, size))
        self._size += size
        self._next = first + len(values)
        while self._size > self._room_bytes:
            self._size -= self._segments[self._head].size
            self._segments[self._head] = _DROPPED
            self._head += 1
        if self._head * 2 > len(self._firsts):
            del self._firsts[: self._head]
            del self._segments[: self._head]
            self._head = 0

    def read(self, offset: int, limit: int) -> list[Record]:
        """Return up to `limit` records from `offset` on, if they are here; else an empty list."""
        index = bisect_right(self._firsts, offset, lo=self._head) - 1
        if index < self._head or offset >= self._next:
            return []
        found: list[Record] = []
        for first, segment in map(self._at, range(index, len(self._firsts))):
            skipped = max(0, offset - first)
            stop = skipped + limit - len(found)
            found += records(first + skipped, segment.time_ms, segment.values[skipped:stop])
            if len(found) >= limit:
                break
        return found

    def _at(self, index: int) -> tuple[int, _Segment]:
        return self._firsts[index], self._segments[index]

    def _clear(self) -> None:
        self._firsts.clear()
        self._segments.clear()
        self._head = self._size = 0
