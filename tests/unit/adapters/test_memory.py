"""The faults that MemoryBuffer can be told to show; what it promises is in the contract suite."""

import asyncio

import pytest

from gateway.adapters.memory import MemoryBuffer
from gateway.ports import (
    Assignment,
    AssignmentLostError,
    BufferFullError,
    BufferUnavailableError,
    Draft,
    Log,
    Position,
    RecordsGoneError,
)


class StillClock:
    """A clock that stands."""

    def now_ms(self) -> int:
        return 1_000


@pytest.fixture
def buffer() -> MemoryBuffer:
    return MemoryBuffer(StillClock(), partitions=3)


async def test_an_outage_fails_everything_until_it_is_over(buffer: MemoryBuffer) -> None:
    buffer.outage = True
    with pytest.raises(BufferUnavailableError):
        await buffer.publish(Log.EVENTS, [Draft(0, b"a")])
    with pytest.raises(BufferUnavailableError):
        await buffer.read(Log.EVENTS, 0, 0, 1)
    buffer.outage = False
    assert await buffer.publish(Log.EVENTS, [Draft(0, b"a")]) == [0]


async def test_the_next_publishes_to_a_log_fail_and_others_do_not(buffer: MemoryBuffer) -> None:
    buffer.fail_next(Log.EVENTS, times=2, error=BufferFullError("full"))
    await buffer.publish(Log.OUTCOMES, [Draft(0, b"o")])
    for _ in range(2):
        with pytest.raises(BufferFullError):
            await buffer.publish(Log.EVENTS, [Draft(0, b"a")])
    assert await buffer.publish(Log.EVENTS, [Draft(0, b"a")]) == [0]


async def test_a_publish_may_fail_although_its_record_is_written(buffer: MemoryBuffer) -> None:
    buffer.fail_next(written=True)
    with pytest.raises(BufferUnavailableError):
        await buffer.publish(Log.EVENTS, [Draft(0, b"a")])
    assert [each.value for each in await buffer.read(Log.EVENTS, 0, 0, 9)] == [b"a"]


@pytest.mark.parametrize("written", [False, True])
async def test_a_publish_hangs_until_released(buffer: MemoryBuffer, written: bool) -> None:  # noqa: FBT001 - a parameter of the test
    buffer.hold(Log.EVENTS, written=written)
    publish = asyncio.ensure_future(buffer.publish(Log.EVENTS, [Draft(0, b"a")]))
    done, _ = await asyncio.wait({publish}, timeout=0.05)
    assert not done
    assert (await buffer.span(Log.EVENTS, 0)).next == int(written)
    buffer.release()
    assert await publish == [0]


async def test_a_partition_handed_over_is_begun_again_after_its_owner_ended(
    buffer: MemoryBuffer,
) -> None:
    seen: list[str] = []
    begun = asyncio.Event()

    async def own(assignment: Assignment) -> None:
        if assignment.partition != 1:
            await assignment.ending.wait()
            return
        seen.append("begun")
        begun.set()
        await assignment.ending.wait()
        await assignment.commit(Position(7, 0))
        seen.append("ended")

    ending = asyncio.Event()
    consume = asyncio.ensure_future(buffer.consume("hook", own, ending))
    await begun.wait()
    begun.clear()
    await buffer.hand_over("hook", 1)
    await begun.wait()
    ending.set()
    await consume
    assert seen == ["begun", "ended", "begun", "ended"]


async def test_a_partition_taken_away_refuses_the_old_owner_and_has_a_new_one_at_once(
    buffer: MemoryBuffer,
) -> None:
    begun, resumed, refused = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def first(assignment: Assignment) -> None:
        if assignment.partition == 0:
            begun.set()
            await resumed.wait()
            with pytest.raises(AssignmentLostError):
                await assignment.commit(Position(1, 1))
            assert assignment.ending.is_set()
            refused.set()
            await assignment.confirm()
        await assignment.ending.wait()

    async def second(assignment: Assignment) -> None:
        if assignment.partition == 0:
            await assignment.commit(Position(5, 5))
            resumed.set()
        await assignment.ending.wait()

    ending = asyncio.Event()
    members = [asyncio.ensure_future(buffer.consume("hook", first, ending))]
    await begun.wait()
    members.append(asyncio.ensure_future(buffer.consume("hook", second, ending)))
    await asyncio.sleep(0)
    buffer.take_away("hook", 0)
    await refused.wait()
    ending.set()
    await asyncio.gather(*members)
    assert buffer.committed("hook", 0) == Position(5, 5)


async def test_a_sole_member_whose_partition_was_taken_away_is_assigned_it_anew(
    buffer: MemoryBuffer,
) -> None:
    begun: list[int] = []
    ending = asyncio.Event()

    async def own(assignment: Assignment) -> None:
        begun.append(assignment.partition)
        if begun == [0, 1, 2]:
            buffer.take_away("hook", 0)
        if begun.count(0) == 2:
            ending.set()
        while not assignment.ending.is_set():
            await assignment.read(0, 1, 0.01)
            await assignment.confirm()

    await buffer.consume("hook", own, ending)
    assert begun == [0, 1, 2, 0]


async def test_what_a_cancelled_owner_does_while_it_unwinds_is_not_committed(
    buffer: MemoryBuffer,
) -> None:
    begun = asyncio.Event()
    unwound: list[int] = []

    async def own(assignment: Assignment) -> None:
        try:
            begun.set()
            await assignment.ending.wait()
            await asyncio.sleep(3600)
        finally:
            with pytest.raises(AssignmentLostError):
                await assignment.commit(Position(1, 1))
            unwound.append(assignment.partition)

    consume = asyncio.ensure_future(buffer.consume("hook", own, asyncio.Event()))
    await begun.wait()
    consume.cancel()
    with pytest.raises(asyncio.CancelledError):
        await consume
    assert sorted(unwound) == [0, 1, 2]
    assert buffer.committed("hook", 0) is None


async def test_records_trimmed_are_gone(buffer: MemoryBuffer) -> None:
    await buffer.publish(Log.EVENTS, [Draft(0, b"a"), Draft(0, b"b")])
    buffer.trim(Log.EVENTS, 0, 1)
    with pytest.raises(RecordsGoneError) as gone:
        await buffer.read(Log.EVENTS, 0, 0, 1)
    assert gone.value.first == 1
    assert [each.value for each in await buffer.read(Log.EVENTS, 0, 1, 1)] == [b"b"]


def test_its_content_outlives_an_event_loop(buffer: MemoryBuffer) -> None:
    async def crash() -> None:
        committed = asyncio.Event()

        async def own(assignment: Assignment) -> None:
            await assignment.commit(Position(3, 2))
            if assignment.partition == 2:
                committed.set()
            await assignment.read(100, 1, 3600)

        await buffer.publish(Log.EVENTS, [Draft(2, b"a")])
        consume = asyncio.ensure_future(buffer.consume("hook", own, asyncio.Event()))
        await committed.wait()
        assert not consume.done()

    async def successor() -> list[Position | None]:
        found: list[Position | None] = []
        ending = asyncio.Event()

        async def own(assignment: Assignment) -> None:
            found.append(await assignment.committed())
            ending.set()

        await buffer.consume("hook", own, ending)
        assert (await buffer.span(Log.EVENTS, 2)).next == 1
        return found

    asyncio.run(crash())
    assert asyncio.run(successor()) == [Position(3, 2)] * 3
