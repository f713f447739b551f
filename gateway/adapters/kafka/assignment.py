"""One partition of `events`, owned for one destination: what was fetched of it, and commits."""

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Protocol

from gateway.adapters.kafka.commit import Commits, lost
from gateway.ports import AssignmentLostError, Position, Record, RecordsGoneError, Span

FULL_RECORDS = 2_000
FULL_BYTES = 4 << 20
"""With so much in hand a partition is paused, until half of it is taken."""
RECORD_BYTES = 100
"""What a record takes in memory beyond its value."""
BEYOND_SECONDS = 0.5
"""How often to look whether a log has reached an offset beyond its end."""


class Source(Protocol):
    """What an assignment asks of the member that fetches for it."""

    async def span(self, partition: int) -> Span:
        """Return the offsets that `events` holds."""

    def seek(self, partition: int, offset: int) -> None:
        """Fetch from there on."""

    def pause(self, partition: int) -> None:
        """Fetch nothing."""

    def resume(self, partition: int) -> None:
        """Fetch again."""


class KafkaAssignment:
    """The `Assignment` port. One `read` at a time."""

    def __init__(self, source: Source, partition: int, commits: Commits) -> None:
        self._source = source
        self._partition = partition
        self._commits = commits
        self._ending = asyncio.Event()
        self._over = False
        self._changed = asyncio.Event()
        self._queue: deque[Record] = deque()
        self._size = 0
        self._place: int | None = None
        """The offset of the next record to hand out; None where reading must begin anew."""
        self._fetched = 0
        """The offset after the last record in hand."""
        self._paused = True

    @property
    def partition(self) -> int:
        """The partition, in `events` and in `outcomes`."""
        return self._partition

    @property
    def ending(self) -> asyncio.Event:
        """Set when it is to be handed over, and when it was lost."""
        return self._ending

    @property
    def lost(self) -> bool:
        """Whether it may not be committed for any more."""
        return self._over or self._commits.lost

    # The port.

    async def committed(self) -> Position | None:
        """Return the last commit, or None when there is none."""
        return await self._commits.committed(self._partition)

    async def commit(self, position: Position) -> None:
        """See the port."""
        self._must_be_owned()
        try:
            await self._commits.commit(self._partition, position)
        except AssignmentLostError:
            self.lose()
            raise

    async def confirm(self) -> None:
        """See the port: a commit that leaves the offset where it is, accepted by the broker."""
        self._must_be_owned()
        try:
            await self._commits.confirm(self._partition)
        except AssignmentLostError:
            self.lose()
            raise
        self._must_be_owned()

    async def read(self, offset: int, limit: int, wait_seconds: float) -> list[Record]:
        """See the port. Comes back early, and empty, when `ending` is set while it waits.

        While Kafka is away nothing is fetched, which looks like the end of the log.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        ending = self._ending.is_set()
        while True:
            self._changed.clear()
            within = await self._go_to(offset)
            found = self._take(limit) if within else []
            left = deadline - loop.time()
            if found or left <= 0 or self._ending.is_set() != ending:
                return found
            with suppress(TimeoutError):
                async with asyncio.timeout(left if within else min(left, BEYOND_SECONDS)):
                    await self._changed.wait()

    # For the member.

    def put(self, records: Sequence[Record]) -> None:
        """Take in what was fetched."""
        for record in records:
            if record.offset >= self._fetched and self._place is not None:
                self._queue.append(record)
                self._size += len(record.value) + RECORD_BYTES
                self._fetched = record.offset + 1
        if len(self._queue) >= FULL_RECORDS or self._size >= FULL_BYTES:
            self._paused = True
            self._source.pause(self._partition)
        self._changed.set()

    def begin_anew(self) -> None:
        """Forget the place: the log does not hold what comes next."""
        self._place = None
        self._paused = True
        self._source.pause(self._partition)
        self._changed.set()

    def end(self) -> None:
        """Set `ending`."""
        self._ending.set()
        self._changed.set()

    def lose(self) -> None:
        """Let nothing be committed or confirmed any more."""
        self._over = True
        self.end()

    async def _go_to(self, offset: int) -> bool:
        """Make `offset` the next to hand out; False when the log ends before it."""
        if self._place is not None and self._place <= offset <= self._fetched:
            while self._queue and self._queue[0].offset < offset:
                self._drop()
            self._place = offset
        if self._place == offset:
            return True
        span = await self._source.span(self._partition)
        if offset < span.first:
            raise RecordsGoneError(span.first)
        if offset > span.next:
            return False
        self._queue.clear()
        self._size = 0
        self._place = self._fetched = offset
        if not self._over:
            self._source.seek(self._partition, offset)
            self._resume()
        return True

    def _take(self, limit: int) -> list[Record]:
        found = [self._drop() for _ in range(min(limit, len(self._queue)))]
        if found:
            self._place = found[-1].offset + 1
        if (
            self._paused
            and not self._over
            and len(self._queue) <= FULL_RECORDS // 2
            and self._size <= FULL_BYTES // 2
        ):
            self._resume()
        return found

    def _drop(self) -> Record:
        record = self._queue.popleft()
        self._size -= len(record.value) + RECORD_BYTES
        return record

    def _resume(self) -> None:
        self._paused = False
        self._source.resume(self._partition)

    def _must_be_owned(self) -> None:
        if self._over:
            raise lost()
