"""What a successor knows: it repeats nothing that was done, and computes what was computed."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.adapters.memory import MemoryAssignment
from gateway.model.envelope import encode
from gateway.model.journal import Answer, Settled
from gateway.model.journal import encode as encode_entry
from gateway.model.outcome import Outcome
from gateway.ports import Draft, Log, Record, Span
from tests.unit.deliver.world import Behaviour, There, World, cart, view
from tests.virtual import run


def test_what_was_delivered_while_its_page_was_still_being_judged_is_not_repeated() -> None:
    async def main() -> None:
        def behave() -> Iterator[Behaviour]:
            yield "slow"

        world = World(There(behave=behave()), batch_seconds=0.0)
        await world.publish(view("v0"))
        world.start()
        await world.until(lambda: world.there.requests == [["v0"]])
        world.buffer.hold(Log.DEAD)
        page = [Draft(0, encode(view("v1"))), Draft(0, b"rubbish")]
        await world.buffer.publish(Log.EVENTS, page)
        await world.until(lambda: world.there.ids("views") == ["v0", "v1"])
        await asyncio.sleep(90)  # a snapshot is written meanwhile
        await world.kill()
        world.buffer.release()
        world.start()
        await world.until_settled()
        await world.stop()
        assert world.there.ids("views") == ["v0", "v1"]

    run(main)


def test_a_cart_in_flight_at_a_crash_stays_superseded_by_a_newer_state_with_an_outcome() -> None:
    async def main() -> None:
        def behave() -> Iterator[Behaviour]:
            yield "slow-lost"

        world = World(There(behave=behave()))
        await world.publish(cart("c1", 0))
        world.start()
        await world.until(lambda: len(world.there.requests) == 1)
        newer = cart("c1", 1000, 2)
        newer.event["contactId"] = "none"  # skipped as soon as it is read
        await world.publish(newer)
        await asyncio.sleep(1)
        await world.kill()
        world.start()
        await world.until_settled()
        await world.stop()
        assert world.there.requests == [["c1-0-v1"]]
        fates = await world.fates()
        assert fates["c1-1000-v1"].outcome is Outcome.SKIPPED
        assert fates["c1-0-v1"].outcome is Outcome.SUPERSEDED

    run(main)


def test_an_attempt_cancelled_before_its_first_step_gives_its_place_back() -> None:
    async def main() -> None:
        world = World(concurrency=1, batch_seconds=0.0)
        await world.publish(view("v1"))
        world.start()

        def attempts() -> list[asyncio.Task[Any]]:
            return [each for each in asyncio.all_tasks() if "_attempt(" in repr(each)]

        async with asyncio.timeout(60):
            while not attempts():
                await asyncio.sleep(0)
        attempts()[0].cancel()
        await world.publish(view("v2"))
        await world.until(lambda: world.there.ids("views") == ["v2"])
        await world.kill()

    run(main)


def test_what_another_destination_wrote_in_the_outcome_log_is_nobodys_but_its_own() -> None:
    async def main() -> None:
        world = World()
        await world.publish(view("v1"), view("v2"))
        theirs = Answer("other", 0, (Settled(0, Outcome.DELIVERED),))
        await world.buffer.publish(Log.OUTCOMES, [Draft(0, encode_entry(theirs))])
        world.start()
        await world.until_settled()
        await world.stop()
        assert world.there.ids("views") == ["v1", "v2"]

    run(main)


def test_outcomes_that_retention_removes_while_a_successor_begins_to_read_stop_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        world = World()
        await world.publish(view("v1"))
        world.start()
        await world.until_settled()
        await world.stop()
        span = world.buffer.span

        async def then_trimmed(log: Log, partition: int) -> Span:
            told = await span(log, partition)
            if log is Log.OUTCOMES:
                world.buffer.trim(Log.OUTCOMES, 0, told.next)
            return told

        monkeypatch.setattr(world.buffer, "span", then_trimmed)
        await world.publish(view("v2"))
        world.start()
        await world.until_settled()
        await world.stop()
        assert world.there.ids("views") == ["v1", "v2"]

    run(main)


def test_a_successor_waits_for_a_log_that_gives_nothing_for_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        world = World()
        await world.publish(view("v1"))
        world.start()
        await world.until_settled()
        await world.stop()
        read, empty = MemoryAssignment.read, iter([True, True])

        async def late(of: MemoryAssignment, offset: int, limit: int, wait: float) -> list[Record]:
            if next(empty, False):
                await asyncio.sleep(wait)
                return []
            return await read(of, offset, limit, wait)

        monkeypatch.setattr(MemoryAssignment, "read", late)
        await world.publish(view("v1"), view("v2"))
        world.start()
        await world.until_settled()
        await world.stop()
        assert world.there.ids("views") == ["v1", "v2"], "v1 again is known for a copy"

    run(main)
