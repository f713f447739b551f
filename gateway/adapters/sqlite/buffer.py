"""The embedded log: the `Buffer` port over one SQLite file, owned by one process.

Group commit: publishes and position commits that arrive while a write is in flight go together
into the next one, which is one transaction, one fsync and, per log, one row.
"""

import asyncio
import logging
from asyncio import Future
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from operator import itemgetter
from typing import TypeVar

from gateway.adapters.sqlite.assignment import SqliteAssignment, carry, either
from gateway.adapters.sqlite.group import Group
from gateway.adapters.sqlite.lock import OwnerLock
from gateway.adapters.sqlite.reader import (
    Readers,
    find_time,
    read_position,
    read_records,
    read_state,
)
from gateway.adapters.sqlite.segment import PARTITION
from gateway.adapters.sqlite.settings import SqliteSettings
from gateway.adapters.sqlite.store import Ends, Store
from gateway.adapters.sqlite.tail import Tail
from gateway.model.retention import Limits
from gateway.model.window import DedupSettings
from gateway.ports import (
    Assignment,
    AssignmentLostError,
    BufferFailedError,
    BufferFullError,
    BufferUnavailableError,
    Clock,
    Draft,
    Log,
    Position,
    Record,
    RecordsGoneError,
    Span,
)

TAIL_BYTES = {Log.EVENTS: 16 << 20, Log.OUTCOMES: 4 << 20, Log.DEAD: 1 << 20, Log.STATE: 0}
"""How much of each log's end is kept in memory too."""
RECORD_BYTES = 50
"""What a record takes beyond its value, in memory; on the disk it is less."""
SHORT_SHARE = 0.8
"""Of `max_bytes`: beyond it room is short, and age no longer keeps a record (rule 5)."""
WAITING_BYTES = 64 << 20
"""How much may wait for the next write; more is refused."""
WRITE_SHARE = 2
WRITE_BYTES = 64 << 10
"""A write takes its size in the WAL and again in the file, and a few pages of the tables."""
REMOVE_EVERY_SECONDS = 30.0
REMOVE_WHEN_SHORT_SECONDS = 0.5

_log = logging.getLogger("gateway.buffer")
_Done = TypeVar("_Done")
_partition_of = itemgetter(0)
_value_of = itemgetter(1)


class SqliteBuffer:
    """The `Buffer` port. `destinations` are those configured: retention waits for each of them."""

    def __init__(
        self,
        settings: SqliteSettings,
        clock: Clock,
        destinations: Sequence[str],
        dedup: DedupSettings,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._destinations = tuple(destinations)
        self._dedup = dedup
        self._lock = OwnerLock(settings.path)
        self._store = Store(settings)
        self._tails = {log: Tail(room) for log, room in TAIL_BYTES.items()}
        self._group = Group()
        self._wanted = asyncio.Event()
        self._short = asyncio.Event()
        self._grown = asyncio.Event()
        self._owners: dict[str, SqliteAssignment] = {}
        self._open = False
        self._tasks: list[asyncio.Task[None]] = []
        self._in_flight_bytes = 0

    @property
    def partitions(self) -> int:
        """One."""
        return 1

    @property
    def used_bytes(self) -> int:
        """What the log takes on the disk, removed records not counted. Cheap."""
        return self._store.used_bytes

    @property
    def max_bytes(self) -> int:
        """At what `used_bytes` events are refused."""
        return self._settings.max_bytes

    # Open and close.

    async def start(self) -> None:
        """Wait for the lock, however long, and open. Raises as the port says."""
        try:
            await self._lock.acquire()
        except OSError as error:
            raise BufferUnavailableError(
                f"cannot lock {self._settings.path} ({error.strerror}): its folder must be"
                " writable, or one that can be made"
            ) from error
        self._thread = ThreadPoolExecutor(1, "gateway-buffer-write")
        try:
            self._follow(await self._in_thread(self._store.open))
        except BaseException:
            self._thread.shutdown(wait=False)
            self._lock.release()
            raise
        self._readers = Readers(self._settings.path)
        self._open = True
        self._tasks = [
            asyncio.create_task(self._write_groups()),
            asyncio.create_task(self._remove_at_times()),
        ]

    async def stop(self) -> None:
        """Write what was published before this call, close, let the next process in."""
        if not self._open:
            return
        self._open = False
        self._wanted.set()
        writing, removing = self._tasks
        removing.cancel()
        await asyncio.wait(self._tasks)
        writing.result()
        await asyncio.to_thread(self._readers.close)
        await self._in_thread(self._store.close)
        await asyncio.to_thread(self._thread.shutdown)
        self._lock.release()

    # Write.

    async def publish(self, log: Log, drafts: Sequence[Draft]) -> list[int]:
        """See the port. When cancelled, the records may be written nonetheless."""
        self._must_be_open()
        if not drafts:
            return []
        _must_be_partition(max(map(_partition_of, drafts)))
        values = list(map(_value_of, drafts))
        size = sum(map(len, values)) + RECORD_BYTES * len(values)
        self._admit(log, size)
        keys = [draft.key for draft in drafts] if log is Log.STATE else []
        written = self._group.add(log, values, keys, size)
        self._wanted.set()
        return await written

    async def commit(self, assignment: SqliteAssignment, position: Position) -> None:
        """Write an assignment's position. Raises AssignmentLostError."""
        await self.confirm(assignment)
        written = self._group.place(assignment.destination, position)
        self._wanted.set()
        await written

    async def confirm(self, assignment: SqliteAssignment) -> None:
        """Return if the assignment goes on and this process holds the lock."""
        if assignment.lost or not self._lock.held:
            assignment.end()
            raise AssignmentLostError("this process no longer owns the log")
        self._must_be_open()

    def _admit(self, log: Log, size: int) -> None:
        """Raise BufferFullError where there is no room. Positions always have some."""
        if self._group.size > WAITING_BYTES:
            raise BufferUnavailableError(f"{self._settings.path}: the disk is too slow; wait")
        room = self._settings.max_bytes - self.used_bytes
        if log is not Log.EVENTS:
            room += self._settings.reserve_bytes
        coming = self._in_flight_bytes + self._group.size + size
        if WRITE_SHARE * coming + WRITE_BYTES > room:
            self._short.set()
            raise BufferFullError(
                f"{self._settings.path} has reached max_bytes ({self._settings.max_bytes}), and"
                " destinations still need what is in it; see that they deliver, or raise it"
            )

    async def _write_groups(self) -> None:
        while self._open or self._group:
            await self._wanted.wait()
            self._wanted.clear()
            while self._group:
                group, self._group = self._group, Group()
                self._in_flight_bytes = group.size
                await self._write(group)
                self._in_flight_bytes = 0

    async def _write(self, group: Group) -> None:
        writing = group.writing(self._clock.now_ms())
        try:
            ends = await self._in_thread(self._store.write, writing)
        except BufferFailedError as error:
            group.fail(str(error))
        except Exception as error:  # noqa: BLE001 - a fault of our own: whoever waits must hear of it
            _log.exception("a write failed")
            group.fail(f"a write failed: {error!r}")
        else:
            firsts = {log: ends.spans[log].next - len(each) for log, each in writing.values.items()}
            for log, values in writing.values.items():
                if log is not Log.STATE:
                    self._tails[log].append(firsts[log], ends.time_ms, values, group.sizes[log])
            self._follow(ends)
            group.succeed(firsts)

    def _follow(self, ends: Ends) -> None:
        """Show readers what the file now holds."""
        for log, span in ends.spans.items():
            self._tails[log].span = span
        self.wake()
        if self.used_bytes > SHORT_SHARE * self._settings.max_bytes:
            self._short.set()

    # Read.

    async def read(self, log: Log, partition: int, offset: int, limit: int) -> list[Record]:
        """See the port."""
        self._must_be_open()
        _must_be_partition(partition)
        await asyncio.sleep(0)
        if log is Log.STATE:
            return await self._readers.run(partial(read_state, offset, limit))
        tail = self._tails[log]
        first, end = tail.span
        if offset < first:
            raise RecordsGoneError(first)
        if offset >= end:
            return []
        found = tail.read(offset, limit)
        return found or await self._readers.run(partial(read_records, log, offset, end, limit))

    async def span(self, log: Log, partition: int) -> Span:
        """See the port."""
        self._must_be_open()
        _must_be_partition(partition)
        return self._tails[log].span

    async def offset_at(self, log: Log, partition: int, time_ms: int) -> int:
        """See the port."""
        self._must_be_open()
        _must_be_partition(partition)
        end = self._tails[log].span.next
        return await self._readers.run(partial(find_time, log, end, time_ms))

    async def committed(self, destination: str) -> Position | None:
        """Return a destination's last commit."""
        self._must_be_open()
        return await self._readers.run(partial(read_position, destination))

    async def wait_beyond(self, offset: int, ending: asyncio.Event, wait_seconds: float) -> None:
        """Wait until `events` holds that offset, or `ending` comes, no longer than that."""
        before = ending.is_set()
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_seconds):
                while self._tails[Log.EVENTS].span.next <= offset and ending.is_set() == before:
                    await self._grown.wait()

    def wake(self) -> None:
        """Let who waits look again."""
        self._grown.set()
        self._grown = asyncio.Event()

    # Consume.

    async def consume(
        self,
        destination: str,
        own: Callable[[Assignment], Awaitable[None]],
        ending: asyncio.Event,
    ) -> None:
        """See the port. A second member of a destination waits until the first has ended."""
        self._must_be_open()
        while destination in self._owners and not ending.is_set():
            await either(self._owners[destination].finished, ending)
        if ending.is_set():
            return
        assignment = SqliteAssignment(self, destination)
        self._owners[destination] = assignment
        try:
            await carry(own, assignment, ending)
        finally:
            del self._owners[destination]
            assignment.finished.set()

    # Remove.

    async def _remove_at_times(self) -> None:
        while True:
            await self._remove()
            await asyncio.sleep(REMOVE_WHEN_SHORT_SECONDS)
            with suppress(TimeoutError):
                async with asyncio.timeout(REMOVE_EVERY_SECONDS):
                    await self._short.wait()
            self._short.clear()

    async def _remove(self) -> None:
        """Remove what may go, in steps; publishes are written between them."""
        more = True
        while more:
            try:
                more, ends = await self._in_thread(
                    self._store.remove, self._destinations, self._limits()
                )
            except BufferFailedError as error:
                _log.warning("old records could not be removed, will try again: %s", error)
                return
            self._follow(ends)

    def _limits(self) -> Limits:
        return Limits(
            now_ms=self._clock.now_ms(),
            retention_ms=int(self._settings.retention_seconds * 1000),
            window_records=self._dedup.per_partition(self.partitions),
            window_ms=int(self._dedup.window_seconds * 1000),
            short=self.used_bytes > SHORT_SHARE * self._settings.max_bytes,
        )

    def _must_be_open(self) -> None:
        if not self._open:
            raise BufferUnavailableError(f"{self._settings.path} is not open")

    def _in_thread(self, call: Callable[..., _Done], *args: object) -> Future[_Done]:
        return asyncio.get_running_loop().run_in_executor(self._thread, call, *args)


def _must_be_partition(partition: int) -> None:
    if partition != PARTITION:
        raise ValueError(f"the embedded log has one partition, {PARTITION}; not {partition}")
