"""What every buffer promises. Nothing here assumes how many partitions there are."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from gateway.adapters.kafka import KafkaBuffer
from gateway.adapters.memory import MemoryBuffer
from gateway.adapters.sqlite import SqliteBuffer, SqliteSettings
from gateway.model.window import DedupSettings
from gateway.ports import (
    Assignment,
    AssignmentLostError,
    Buffer,
    Draft,
    Log,
    Position,
    RecordsGoneError,
)
from tests.brokers import TEST_SECONDS as BROKER_TEST_SECONDS
from tests.brokers import Broker, on_broker

HOOK = "hook"
DEADLINE_SECONDS = 10


class SteppingClock:
    """Each look is a millisecond later."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def now_ms(self) -> int:
        self.ms += 1
        return self.ms


class Place:
    """Where a buffer's content is: opened again, it is all there."""

    def __init__(self, make: Callable[[], Buffer]) -> None:
        self._make = make

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[Buffer]:
        buffer = self._make()
        await buffer.start()
        try:
            yield buffer
        finally:
            await buffer.stop()


@contextmanager
def memory(_: pytest.FixtureRequest) -> Iterator[Place]:
    buffer = MemoryBuffer(SteppingClock(), partitions=3)
    yield Place(lambda: buffer)


@contextmanager
def sqlite(request: pytest.FixtureRequest) -> Iterator[Place]:
    folder: Path = request.getfixturevalue("tmp_path")
    settings = SqliteSettings(path=folder / "buffer.db")
    clock = SteppingClock()
    yield Place(lambda: SqliteBuffer(settings, clock, [HOOK], DedupSettings()))


@contextmanager
def kafka(request: pytest.FixtureRequest) -> Iterator[Place]:
    broker: Broker = request.getfixturevalue("broker")
    settings = on_broker(broker, partitions=3)
    yield Place(lambda: KafkaBuffer(settings, keep_seconds=3600, hand_over_seconds=5))


ON_A_BROKER = pytest.mark.timeout(BROKER_TEST_SECONDS)


@pytest.fixture(params=[memory, sqlite, pytest.param(kafka, marks=ON_A_BROKER)])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    with request.param(request) as found:
        yield found


@pytest.fixture
async def buffer(place: Place) -> AsyncIterator[Buffer]:
    async with place.opened() as found:
        yield found


class Member:
    """A `consume` call, what it owns, and what it did."""

    def __init__(self, buffer: Buffer, own: Callable[[Assignment], Awaitable[None]]) -> None:
        self.ending = asyncio.Event()
        self.owned: set[int] = set()
        self.begun: list[int] = []
        self.changed = asyncio.Event()
        self._own = own
        self.call = asyncio.ensure_future(buffer.consume(HOOK, self._work, self.ending))

    async def _work(self, assignment: Assignment) -> None:
        self.begun.append(assignment.partition)
        self.owned.add(assignment.partition)
        self.changed.set()
        try:
            await self._own(assignment)
        finally:
            self.owned.discard(assignment.partition)
            self.changed.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE_SECONDS):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def crash(self) -> None:
        self.call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.call

    async def end(self) -> None:
        self.ending.set()
        async with asyncio.timeout(DEADLINE_SECONDS):
            await self.call


async def until_ending(assignment: Assignment) -> None:
    await assignment.ending.wait()


async def values(buffer: Buffer, log: Log, partition: int, offset: int = 0) -> list[bytes]:
    found = []
    while records := await buffer.read(log, partition, offset, 7):
        found += [record.value for record in records]
        offset = records[-1].offset + 1
    return found


# Publish and read.


@pytest.mark.parametrize("log", Log)
async def test_a_new_log_is_empty(buffer: Buffer, log: Log) -> None:
    for partition in range(buffer.partitions):
        assert await buffer.span(log, partition) == (0, 0)
        assert await buffer.read(log, partition, 0, 10) == []
        assert await buffer.offset_at(log, partition, 0) == 0


async def test_nothing_published_is_nothing_written(buffer: Buffer) -> None:
    assert await buffer.publish(Log.EVENTS, []) == []
    assert await buffer.span(Log.EVENTS, 0) == (0, 0)


@pytest.mark.parametrize("log", Log)
async def test_records_come_back_as_they_were_published(buffer: Buffer, log: Log) -> None:
    last = buffer.partitions - 1
    empty = b"-" if log is Log.STATE else b""  # there it removes
    bodies = [empty, b"\x00\xff", "jämför".encode(), b"x" * 1_000_000]
    drafts = [Draft(last, body, str(key).encode()) for key, body in enumerate(bodies)]
    assert await buffer.publish(log, drafts) == [0, 1, 2, 3]
    records = await buffer.read(log, last, 0, 10)
    while len(records) < 4:
        records += await buffer.read(log, last, len(records), 10)
    assert [record.value for record in records] == bodies
    assert [(record.partition, record.offset) for record in records] == [
        (last, offset) for offset in range(4)
    ]


async def test_each_draft_gets_the_offset_that_its_record_is_read_at(buffer: Buffer) -> None:
    drafts = [Draft(number % buffer.partitions, b"%d" % number) for number in range(20)]
    offsets = await buffer.publish(Log.EVENTS, drafts[:11])
    offsets += await buffer.publish(Log.EVENTS, drafts[11:])
    for draft, offset in zip(drafts, offsets, strict=True):
        (record,) = await buffer.read(Log.EVENTS, draft.partition, offset, 1)
        assert record.value == draft.value


async def test_logs_do_not_mix(buffer: Buffer) -> None:
    for log in Log:
        await buffer.publish(log, [Draft(0, log.value.encode(), b"k")])
    for log in Log:
        assert await values(buffer, log, 0) == [log.value.encode()]


async def test_a_read_begins_anywhere_and_keeps_to_its_limit(buffer: Buffer) -> None:
    for start in range(0, 30, 5):
        await buffer.publish(
            Log.EVENTS, [Draft(0, b"%d" % number) for number in range(start, start + 5)]
        )
    for offset in range(30):
        records = await buffer.read(Log.EVENTS, 0, offset, 7)
        assert 1 <= len(records) <= 7
        assert [record.offset for record in records] == list(range(offset, offset + len(records)))
        assert [record.value for record in records] == [b"%d" % r.offset for r in records]
    assert await buffer.read(Log.EVENTS, 0, 30, 7) == []
    assert await buffer.read(Log.EVENTS, 0, 1000, 7) == []


async def test_concurrent_publishes_leave_no_gaps_and_keep_each_callers_order(
    buffer: Buffer,
) -> None:
    async def caller(name: int) -> list[int]:
        offsets = []
        for number in range(10):
            drafts = [Draft(0, b"%d:%d:%d" % (name, number, part)) for part in range(3)]
            offsets += await buffer.publish(Log.EVENTS, drafts)
        return offsets

    offsets = await asyncio.gather(*map(caller, range(20)))
    assert all(each == sorted(each) for each in offsets)
    assert sorted(offset for each in offsets for offset in each) == list(range(600))
    found = await values(buffer, Log.EVENTS, 0)
    for name in range(20):
        mine = [value for value in found if value.startswith(b"%d:" % name)]
        assert mine == [b"%d:%d:%d" % (name, n, part) for n in range(10) for part in range(3)]


async def test_a_cancelled_publish_is_written_whole_or_not_at_all(buffer: Buffer) -> None:
    publish = [
        asyncio.ensure_future(
            buffer.publish(Log.EVENTS, [Draft(0, b"%d" % n), Draft(0, b"%d" % n)])
        )
        for n in range(10)
    ]
    await asyncio.sleep(0)
    for call in publish[::2]:
        call.cancel()
    done = await asyncio.gather(*publish, return_exceptions=True)
    assert await buffer.publish(Log.EVENTS, [Draft(0, b"after")])
    found = await values(buffer, Log.EVENTS, 0)
    assert found[-1] == b"after"
    for number, result in enumerate(done):
        copies = found.count(b"%d" % number)
        assert copies in ({0, 2} if isinstance(result, asyncio.CancelledError) else {2})


async def test_times_never_fall_and_lead_to_offsets(buffer: Buffer) -> None:
    for number in range(25):
        await buffer.publish(Log.EVENTS, [Draft(0, b"%d" % number)] * 2)
    records = [(await buffer.read(Log.EVENTS, 0, offset, 1))[0] for offset in range(50)]
    times = [record.time_ms for record in records]
    assert times == sorted(times)
    for time_ms in times:
        assert await buffer.offset_at(Log.EVENTS, 0, time_ms) == times.index(time_ms)
    assert await buffer.offset_at(Log.EVENTS, 0, 0) == 0
    assert await buffer.offset_at(Log.EVENTS, 0, times[-1] + 1) == 50


async def test_state_keeps_the_last_record_of_each_key(buffer: Buffer) -> None:
    for number in range(9):
        await buffer.publish(
            Log.STATE, [Draft(0, b"%d" % number, b"k%d" % (number % 3)), Draft(0, b"x", b"same")]
        )
    records = await buffer.read(Log.STATE, 0, 0, 1000)
    last = {record.key: (record.value, record.offset) for record in records}
    assert last == {b"k0": (b"6", 12), b"k1": (b"7", 14), b"k2": (b"8", 16), b"same": (b"x", 17)}
    assert [record.offset for record in records] == sorted(record.offset for record in records)
    assert (await buffer.span(Log.STATE, 0)).next == 18


async def test_an_empty_value_removes_a_key_from_state(buffer: Buffer) -> None:
    await buffer.publish(Log.STATE, [Draft(0, b"1", b"a"), Draft(0, b"1", b"b")])
    await buffer.publish(Log.STATE, [Draft(0, b"", b"a")])
    await buffer.publish(Log.STATE, [Draft(0, b"2", b"c")])
    records = await buffer.read(Log.STATE, 0, 0, 1000)
    last = {record.key: record.value for record in records}
    assert {key: value for key, value in last.items() if value} == {b"b": b"1", b"c": b"2"}


async def test_what_was_published_and_committed_is_there_after_a_restart(place: Place) -> None:
    async def commit(assignment: Assignment) -> None:
        await assignment.commit(Position(3, 1))
        await assignment.ending.wait()

    async with place.opened() as buffer:
        for log in Log:
            await buffer.publish(log, [Draft(0, b"%d" % n, b"%d" % n) for n in range(5)])
        member = Member(buffer, commit)
        await member.until(lambda: len(member.begun) == buffer.partitions)
        await member.end()
    async with place.opened() as buffer:
        for log in Log:
            assert await values(buffer, log, 0) == [b"0", b"1", b"2", b"3", b"4"]
            assert await buffer.publish(log, [Draft(0, b"5", b"5")]) == [5]
            assert await values(buffer, log, 0, 4) == [b"4", b"5"]
        found: list[Position | None] = []
        member = Member(buffer, lambda each: _note(each, found))
        await member.until(lambda: len(member.owned) == buffer.partitions)
        await member.end()
        assert found == [Position(3, 1)] * buffer.partitions


async def _note(assignment: Assignment, found: list[Position | None]) -> None:
    found.append(await assignment.committed())
    await assignment.ending.wait()


# Consume.


async def test_a_sole_member_owns_every_partition_once(buffer: Buffer) -> None:
    member = Member(buffer, until_ending)
    await member.until(lambda: len(member.owned) == buffer.partitions)
    await member.end()
    assert sorted(member.begun) == list(range(buffer.partitions))
    assert not member.owned


async def test_on_ending_every_owner_is_awaited_and_may_still_commit(buffer: Buffer) -> None:
    finished = []

    async def own(assignment: Assignment) -> None:
        await assignment.ending.wait()
        await buffer.publish(Log.OUTCOMES, [Draft(assignment.partition, b"last words")])
        await assignment.confirm()
        await assignment.commit(Position(9, 1))
        finished.append(assignment.partition)

    member = Member(buffer, own)
    await member.until(lambda: len(member.owned) == buffer.partitions)
    await member.end()
    assert sorted(finished) == list(range(buffer.partitions))
    found: list[Position | None] = []
    member = Member(buffer, lambda each: _note(each, found))
    await member.until(lambda: len(member.owned) == buffer.partitions)
    await member.end()
    assert found == [Position(9, 1)] * buffer.partitions


async def test_an_owner_that_returns_by_itself_is_not_begun_again(buffer: Buffer) -> None:
    async def own(assignment: Assignment) -> None:
        await assignment.confirm()

    member = Member(buffer, own)
    await member.until(lambda: len(member.begun) == buffer.partitions and not member.owned)
    await buffer.publish(Log.EVENTS, [Draft(0, b"a")])
    assert not member.call.done()
    await member.end()
    assert len(member.begun) == buffer.partitions


async def test_an_owners_error_ends_the_call_after_the_others_were_ended(buffer: Buffer) -> None:
    proceed = asyncio.Event()
    ended = []

    async def own(assignment: Assignment) -> None:
        if assignment.partition == 0:
            await proceed.wait()
            raise ZeroDivisionError
        await assignment.ending.wait()
        ended.append(assignment.partition)

    member = Member(buffer, own)
    await member.until(lambda: len(member.owned) == buffer.partitions)
    proceed.set()
    with pytest.raises(ZeroDivisionError):
        await member.call
    assert sorted(ended) == list(range(1, buffer.partitions))


async def test_a_read_waits_for_a_record_and_no_longer_than_told(buffer: Buffer) -> None:
    results: list[list[bytes]] = []
    waiting = asyncio.Event()

    async def own(assignment: Assignment) -> None:
        if assignment.partition == 0:
            assert await assignment.read(0, 10, 0.02) == []
            waiting.set()
            records = await assignment.read(0, 10, 60)
            results.append([record.value for record in records])
        await assignment.ending.wait()

    member = Member(buffer, own)
    async with asyncio.timeout(DEADLINE_SECONDS):
        await waiting.wait()
    await asyncio.sleep(0)
    await buffer.publish(Log.OUTCOMES, [Draft(0, b"o")])
    await buffer.publish(Log.EVENTS, [Draft(0, b"e")])
    member.changed.set()
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not results:
            await asyncio.sleep(0.001)
    await member.end()
    assert results == [[b"e"]]


async def test_positions_are_kept_for_each_destination(buffer: Buffer) -> None:
    seen: dict[str, Position | None] = {}

    def own(name: str) -> Callable[[Assignment], Awaitable[None]]:
        async def commit(assignment: Assignment) -> None:
            if assignment.partition == 0:
                assert await assignment.committed() is None
                await assignment.commit(Position(len(name), 0))
                await assignment.commit(Position(len(name) + 1, 0))
                seen[name] = await assignment.committed()
                ending.set()
            await assignment.ending.wait()

        return commit

    for name in ("hook", "archive"):
        ending = asyncio.Event()
        async with asyncio.timeout(DEADLINE_SECONDS):
            await buffer.consume(name, own(name), ending)
    assert seen == {"hook": Position(5, 0), "archive": Position(8, 0)}


async def test_after_a_crash_a_successor_goes_on_at_the_commit(buffer: Buffer) -> None:
    committed = asyncio.Event()

    async def own(assignment: Assignment) -> None:
        if assignment.partition == 0:
            await assignment.commit(Position(2, 0))
            committed.set()
        await assignment.read(50, 1, 3600)

    member = Member(buffer, own)
    async with asyncio.timeout(DEADLINE_SECONDS):
        await committed.wait()
    await member.crash()
    assert not member.owned
    found: list[Position | None] = []
    successor = Member(buffer, lambda each: _note(each, found))
    await successor.until(lambda: len(successor.owned) == buffer.partitions)
    await successor.end()
    assert found.count(Position(2, 0)) == 1


async def test_an_assignment_that_is_over_neither_commits_nor_confirms(buffer: Buffer) -> None:
    kept: list[Assignment] = []

    async def own(assignment: Assignment) -> None:
        kept.append(assignment)
        await assignment.ending.wait()

    member = Member(buffer, own)
    await member.until(lambda: len(member.owned) == buffer.partitions)
    await member.crash()
    for assignment in kept:
        with pytest.raises(AssignmentLostError):
            await assignment.confirm()
        with pytest.raises(AssignmentLostError):
            await assignment.commit(Position(1, 1))


async def test_two_members_never_own_one_partition_together_and_leave_none_out(
    buffer: Buffer,
) -> None:
    first = Member(buffer, until_ending)
    await first.until(lambda: len(first.owned) == buffer.partitions)
    second = Member(buffer, until_ending)
    second.changed = first.changed

    def shared_out() -> bool:
        assert not first.owned & second.owned
        return len(first.owned | second.owned) == buffer.partitions

    await first.until(lambda: shared_out() and (bool(second.owned) or buffer.partitions == 1))
    first.ending.set()
    await first.until(lambda: shared_out() and len(second.owned) == buffer.partitions)
    await first.end()
    await second.end()


async def test_offsets_not_yet_there_are_not_gone(buffer: Buffer) -> None:
    try:
        assert await buffer.read(Log.EVENTS, 0, 5, 1) == []
    except RecordsGoneError:
        pytest.fail("a place beyond the end is not a place before the beginning")
