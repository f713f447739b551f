"""The buffer in memory: any number of partitions, no threads, no files, nothing survives exit.

It keeps the port's promises within one process, so use cases can be tried in virtual time. The
logs belong to the object, not to its users: cancel a `consume`, or start again in another event
loop, and what was published and committed is still there, as after a crash.

Faults to switch on: `outage`, `fail_next`, `hold` and `release`, `hand_over`, `take_away`, `trim`.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import islice

from gateway.ports import (
    Assignment,
    AssignmentLostError,
    BufferFailedError,
    BufferUnavailableError,
    Clock,
    Draft,
    Log,
    Position,
    Record,
    RecordsGoneError,
    Span,
)

Own = Callable[[Assignment], Awaitable[None]]


class _Part:
    """One partition of one log."""

    def __init__(self) -> None:
        self.first = 0
        self.records: list[Record] = []
        self.next = 0
        self.last_ms = 0
        self._waiting: set[asyncio.Future[None]] = set()

    def append(self, draft: Draft, now_ms: int) -> int:
        self.last_ms = max(self.last_ms, now_ms)
        record = Record(draft.partition, self.next, self.last_ms, draft.value)
        self.records.append(record)
        self.next += 1
        return record.offset

    def since(self, offset: int, limit: int) -> list[Record]:
        if offset < self.first:
            raise RecordsGoneError(self.first)
        start = offset - self.first
        return self.records[start : start + limit]

    def trim(self, first: int) -> None:
        first = min(max(first, self.first), self.next)
        del self.records[: first - self.first]
        self.first = first

    def wake(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def wait(self, wait_seconds: float) -> None:
        """Wait for `wake`, no longer than that."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            await asyncio.wait({future}, timeout=wait_seconds)
        finally:
            self._waiting.discard(future)


class _CompactedPart(_Part):
    """Keeps the last record of each key."""

    def __init__(self) -> None:
        super().__init__()
        self._latest: dict[bytes, Record] = {}

    def append(self, draft: Draft, now_ms: int) -> int:
        self.last_ms = max(self.last_ms, now_ms)
        record = Record(draft.partition, self.next, self.last_ms, draft.value, draft.key)
        self._latest.pop(draft.key, None)
        if draft.value:
            self._latest[draft.key] = record
        self.next += 1
        return record.offset

    def since(self, offset: int, limit: int) -> list[Record]:
        later = (record for record in self._latest.values() if record.offset >= offset)
        return list(islice(later, limit))


class _Fault:
    """What befalls the next publishes: an error, or a wait where `error` is None."""

    def __init__(
        self, log: Log | None, error: BufferFailedError | None, *, written: bool, times: int | None
    ) -> None:
        self.log = log
        self.error = error
        self.written = written
        self.times = times
        self.released: asyncio.Future[None] | None = None

    async def befall(self) -> None:
        if self.error is not None:
            raise self.error
        if self.released is None:
            self.released = asyncio.get_running_loop().create_future()
        await asyncio.shield(self.released)


class MemoryBuffer:
    """The `Buffer` port in memory. Several `consume` calls for one destination are its members."""

    def __init__(self, clock: Clock, partitions: int = 1) -> None:
        self.outage = False
        """While True, every publish, read, commit and confirm raises BufferUnavailableError."""
        self.publishes = 0
        """How many publishes were written."""
        self._clock = clock
        self._partitions = partitions
        self._logs: dict[Log, list[_Part]] = {
            log: [_CompactedPart() if log is Log.STATE else _Part() for _ in range(partitions)]
            for log in Log
        }
        self._positions: dict[tuple[str, int], Position] = {}
        self._groups: dict[str, _Group] = defaultdict(lambda: _Group(partitions))
        self._faults: list[_Fault] = []

    # Faults.

    def fail_next(
        self,
        log: Log | None = None,
        *,
        times: int = 1,
        error: BufferFailedError | None = None,
        written: bool = False,
    ) -> None:
        """Make the next publishes (to `log`, or any) raise `error`, or BufferUnavailableError.

        With `written` their records are in the log nonetheless, as when an answer is lost.
        """
        error = error or BufferUnavailableError("the buffer was told to fail")
        self._faults.append(_Fault(log, error, written=written, times=times))

    def hold(self, log: Log | None = None, *, written: bool = False) -> None:
        """Make publishes (to `log`, or any) hang until `release`; `written`: after the write."""
        self._faults.append(_Fault(log, None, written=written, times=None))

    def release(self) -> None:
        """Undo every `hold` and `fail_next`; what hangs goes on."""
        for fault in self._faults:
            if fault.released is not None and not fault.released.done():
                fault.released.set_result(None)
        self._faults.clear()

    async def hand_over(self, destination: str, partition: int) -> None:
        """Set the assignment's `ending`, await its `own`; then the next member owns it.

        A sole member is assigned it anew.
        """
        await self._groups[destination].hand_over(partition)

    def take_away(self, destination: str, partition: int) -> None:
        """Give a partition to the next member at once, without telling its owner.

        The owner's next commit or confirm raises AssignmentLostError, and then its `ending` is
        set. A sole member is assigned it anew when its old `own` is over.
        """
        self._groups[destination].take_away(partition)

    def trim(self, log: Log, partition: int, first: int) -> None:
        """Remove what is below `first`, as retention does, though somebody may need it."""
        self._logs[log][partition].trim(first)

    # The port.

    @property
    def partitions(self) -> int:
        """How many partitions each log has."""
        return self._partitions

    async def start(self) -> None:
        """Raise BufferUnavailableError during an `outage`; there is nothing to open."""
        await self._pass()

    async def stop(self) -> None:
        """Do nothing: what was published stays."""

    async def publish(self, log: Log, drafts: Sequence[Draft]) -> list[int]:
        """Append; see the port. When cancelled, the records may be in the log."""
        await self._pass()
        fault = self._next_fault(log)
        if fault is not None and not fault.written:
            await fault.befall()
        now_ms = self._clock.now_ms()
        parts = self._logs[log]
        offsets = [parts[draft.partition].append(draft, now_ms) for draft in drafts]
        self.publishes += 1
        for partition in {draft.partition for draft in drafts}:
            parts[partition].wake()
        if fault is not None and fault.written:
            await fault.befall()
        await asyncio.sleep(0)
        return offsets

    async def read(self, log: Log, partition: int, offset: int, limit: int) -> list[Record]:
        """See the port."""
        await self._pass()
        return self._logs[log][partition].since(offset, limit)

    async def span(self, log: Log, partition: int) -> Span:
        """See the port."""
        await self._pass()
        part = self._logs[log][partition]
        return Span(part.first, part.next)

    async def offset_at(self, log: Log, partition: int, time_ms: int) -> int:
        """See the port."""
        await self._pass()
        part = self._logs[log][partition]
        later = (
            each.offset for each in part.since(part.first, part.next) if each.time_ms >= time_ms
        )
        return next(later, part.next)

    async def consume(self, destination: str, own: Own, ending: asyncio.Event) -> None:
        """See the port. Cancelled, it cancels every `own`: a crash; nothing of theirs commits."""
        group = self._groups[destination]

        def assign(partition: int) -> MemoryAssignment:
            return MemoryAssignment(self, destination, partition)

        member = _Member(group, own, assign)
        group.join(member)
        watch = asyncio.ensure_future(member.watch(ending))
        try:
            await member.run(ending)
        finally:
            watch.cancel()
            await member.abandon()
            group.leave(member)

    # For its assignments.

    def committed(self, destination: str, partition: int) -> Position | None:
        """Return the last commit."""
        return self._positions.get((destination, partition))

    async def commit(self, assignment: "MemoryAssignment", position: Position) -> None:
        """Keep the position of an assignment that is still owned."""
        await self.confirm(assignment)
        self._positions[assignment.destination, assignment.partition] = position
        await asyncio.sleep(0)

    async def confirm(self, assignment: "MemoryAssignment") -> None:
        """Raise AssignmentLostError unless the assignment is still owned."""
        await self._pass()
        if assignment.lost:
            assignment.end()
            raise AssignmentLostError(
                f"partition {assignment.partition} is no longer this member's"
            )

    async def wait(self, partition: int, offset: int, wait_seconds: float) -> None:
        """Wait until `events` reaches beyond `offset`, or something else wakes its readers."""
        part = self._logs[Log.EVENTS][partition]
        if part.next <= offset:
            await part.wait(wait_seconds)

    def wake(self, partition: int) -> None:
        """Wake who waits for `events`."""
        self._logs[Log.EVENTS][partition].wake()

    async def _pass(self) -> None:
        """Let others run, as any real buffer does; be cancelled here; fail in an outage."""
        await asyncio.sleep(0)
        if self.outage:
            raise BufferUnavailableError("the buffer does not answer; is it running?")

    def _next_fault(self, log: Log) -> _Fault | None:
        fault = next((each for each in self._faults if each.log in {None, log}), None)
        if fault is not None and fault.times is not None:
            fault.times -= 1
            if not fault.times:
                self._faults.remove(fault)
        return fault


class MemoryAssignment:
    """The `Assignment` port."""

    def __init__(self, buffer: MemoryBuffer, destination: str, partition: int) -> None:
        self.destination = destination
        self.lost = False
        self.finished = asyncio.Event()
        """Set when its `own` has ended."""
        self._buffer = buffer
        self._partition = partition
        self._ending = asyncio.Event()

    @property
    def partition(self) -> int:
        """The partition, in `events` and in `outcomes`."""
        return self._partition

    @property
    def ending(self) -> asyncio.Event:
        """Set when it is to be handed over."""
        return self._ending

    @property
    def over(self) -> bool:
        """Whether its `own` has ended and somebody else may begin."""
        return self.finished.is_set() and (self.lost or self._ending.is_set())

    async def committed(self) -> Position | None:
        """Return the last commit, or None when there is none."""
        await asyncio.sleep(0)
        return self._buffer.committed(self.destination, self._partition)

    async def read(self, offset: int, limit: int, wait_seconds: float) -> list[Record]:
        """See the port. Comes back early, and empty, when `ending` is set while it waits."""
        found = await self._buffer.read(Log.EVENTS, self._partition, offset, limit)
        if found or wait_seconds <= 0:
            return found
        if self.lost:
            self.end()
        await self._buffer.wait(self._partition, offset, wait_seconds)
        return await self._buffer.read(Log.EVENTS, self._partition, offset, limit)

    async def commit(self, position: Position) -> None:
        """See the port."""
        await self._buffer.commit(self, position)

    async def confirm(self) -> None:
        """See the port."""
        await self._buffer.confirm(self)

    def end(self) -> None:
        """Set `ending`, once."""
        if not self._ending.is_set():
            self._ending.set()
            self._buffer.wake(self._partition)


class _Group:
    """The members of one destination, and which of them each partition is meant for."""

    def __init__(self, partitions: int) -> None:
        self._partitions = partitions
        self._members: list[_Member] = []
        self._meant: dict[int, _Member] = {}
        self._held: dict[int, MemoryAssignment] = {}

    def join(self, member: "_Member") -> None:
        self._members.append(member)
        self._spread()

    def leave(self, member: "_Member") -> None:
        self._members.remove(member)
        self._spread()

    def free(self, member: "_Member") -> list[int]:
        """Return the partitions meant for a member that nobody, or only a loser, works on."""
        found = []
        for partition, meant in self._meant.items():
            held = self._held.get(partition)
            idle = held is None or held.over or (held.lost and held not in member.work)
            if meant is member and idle:
                found.append(partition)
        return found

    def hold(self, partition: int, assignment: MemoryAssignment) -> None:
        self._held[partition] = assignment

    def wake(self) -> None:
        for member in self._members:
            member.changed.set()

    async def hand_over(self, partition: int) -> None:
        held = self._held[partition]
        self._pass_on(partition)
        held.end()
        await held.finished.wait()

    def take_away(self, partition: int) -> None:
        self._held[partition].lost = True
        self._pass_on(partition)
        self.wake()

    def _pass_on(self, partition: int) -> None:
        now = self._members.index(self._meant[partition])
        self._meant[partition] = self._members[(now + 1) % len(self._members)]

    def _spread(self) -> None:
        """Share out the partitions; end the assignments that move."""
        self._meant = {
            partition: self._members[partition % len(self._members)]
            for partition in range(self._partitions)
            if self._members
        }
        for partition, held in self._held.items():
            meant = self._meant.get(partition)
            if meant is None or held not in meant.work:
                held.end()
        self.wake()


class _Member:
    """One `consume` call."""

    def __init__(self, group: _Group, own: Own, assign: Callable[[int], MemoryAssignment]) -> None:
        self.work: dict[MemoryAssignment, asyncio.Future[None]] = {}
        self.changed = asyncio.Event()
        self._group = group
        self._own = own
        self._assign = assign
        self._failures: list[BaseException] = []

    async def watch(self, ending: asyncio.Event) -> None:
        await ending.wait()
        self.changed.set()

    async def run(self, ending: asyncio.Event) -> None:
        """Begin what is meant for this member, until `ending`; then await what was begun."""
        while not ending.is_set() and not self._failures:
            self._begin()
            await self._change()
        for assignment in self.work:
            assignment.end()
        while self.work:
            self._reap()
            if self.work:
                await self._change()
        if self._failures:
            raise self._failures[0]

    async def abandon(self) -> None:
        """Cancel what still runs; none of it can commit any more."""
        for assignment, task in self.work.items():
            assignment.lost = True
            assignment.end()
            task.cancel()
        if self.work:
            await asyncio.wait(self.work.values())
        self._reap()

    def _begin(self) -> None:
        for partition in self._group.free(self):
            assignment = self._assign(partition)
            self._group.hold(partition, assignment)
            task = asyncio.ensure_future(self._own(assignment))
            task.add_done_callback(partial(self._finish, assignment))
            self.work[assignment] = task

    def _finish(self, assignment: MemoryAssignment, _task: asyncio.Future[None]) -> None:
        assignment.finished.set()
        self._group.wake()

    async def _change(self) -> None:
        await self.changed.wait()
        self.changed.clear()
        self._reap()

    def _reap(self) -> None:
        """Take note of what has ended. Losing an assignment is no failure: it ends that one."""
        for assignment, task in list(self.work.items()):
            if not task.done():
                continue
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            expected = assignment.lost and isinstance(error, AssignmentLostError)
            if error is not None and not expected:
                self._failures.append(error)
            if assignment.over:
                del self.work[assignment]
