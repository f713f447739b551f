"""What waits for the next write, and who waits for it."""

import asyncio
from asyncio import Future
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from gateway.adapters.sqlite.store import Writing
from gateway.ports import BufferUnavailableError, Log, Position


class _Waiter(NamedTuple):
    future: Future[list[int]]
    log: Log
    start: int
    records: int


class Group:
    """Publishes and position commits that share one transaction."""

    def __init__(self) -> None:
        self.size = 0
        """Bytes of memory."""
        self.sizes: dict[Log, int] = {}
        self._values: dict[Log, list[bytes]] = {}
        self._keys: list[bytes] = []
        self._positions: dict[str, Position] = {}
        self._publishers: list[_Waiter] = []
        self._committers: list[Future[None]] = []

    def __bool__(self) -> bool:
        return bool(self._publishers or self._committers)

    def add(
        self, log: Log, values: Sequence[bytes], keys: Sequence[bytes], size: int
    ) -> Future[list[int]]:
        """Take in records; return the future of their offsets. Its wait may be cancelled."""
        together = self._values.setdefault(log, [])
        future: Future[list[int]] = asyncio.get_running_loop().create_future()
        self._publishers.append(_Waiter(future, log, len(together), len(values)))
        together += values
        self._keys += keys
        self.size += size
        self.sizes[log] = self.sizes.get(log, 0) + size
        return future

    def place(self, destination: str, position: Position) -> Future[None]:
        """Take in a commit."""
        self._positions[destination] = position
        future: Future[None] = asyncio.get_running_loop().create_future()
        self._committers.append(future)
        return future

    def writing(self, now_ms: int) -> Writing:
        """Return it as the store takes it."""
        return Writing(now_ms, self._values, self._keys, self._positions)

    def succeed(self, firsts: Mapping[Log, int]) -> None:
        """Answer: it is durable; each log's records begin at the offset given."""
        for future, log, start, count in self._publishers:
            if not future.done():
                begin = firsts[log] + start
                future.set_result(list(range(begin, begin + count)))
        for commit in self._committers:
            if not commit.done():
                commit.set_result(None)

    def fail(self, why: str) -> None:
        """Answer: it was not acknowledged."""
        publishers = [waiter.future for waiter in self._publishers]
        futures: list[Future[list[int]] | Future[None]] = [*publishers, *self._committers]
        for future in futures:
            if not future.done():
                future.set_exception(BufferUnavailableError(why))
