"""A run of events turned away as by a wrong setting pauses the destination; nothing is buried."""

import asyncio
import logging
from collections.abc import Iterator
from itertools import repeat

import pytest

from gateway import metrics
from gateway.model.attempt import Request
from gateway.model.breaker import FAILURES, Breaker
from gateway.model.journal import Pause
from gateway.model.outcome import Outcome, Reason
from tests.unit.deliver.world import NAME, Behaviour, There, World, cart, lead, view
from tests.virtual import run

HOURS = 7_200.0
PAUSED = (
    r"there: leads is paused, as by a wrong setting \(HTTP 401\). Nothing is lost for 72 h "
    r"\(retry_for_seconds\): mend \[destinations.there\] and restart"
)


def by_kind(there: There, kind: str, behaviour: Behaviour) -> None:
    """Let the requests of a kind end so, the others well."""

    def before(request: Request) -> None:
        there.behave = iter([behaviour] if request.endpoint == kind else [])

    there.on_send = before


async def pauses(world: World) -> list[tuple[str, bool]]:
    return [(e.request_kind, e.on) for _, e in await world.entries() if isinstance(e, Pause)]


@pytest.mark.logs_errors(PAUSED)
def test_a_wrong_key_pauses_loudly_buries_nothing_and_a_try_ends_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        world = World(There(behave=repeat("forbidden")), retry_alone_seconds=60)
        await world.publish(*(lead(f"l{n}", f"u{n}") for n in range(40)))
        world.start()
        await asyncio.sleep(HOURS)
        assert (await world.fates()) == {}
        assert len(world.there.requests) < 40 + HOURS / 25  # a try a few minutes, not a flood
        assert await pauses(world) == [("leads", True)]
        for gauge in (metrics.PAUSED, metrics.BREAKER_OPEN):
            assert gauge.labels(NAME)._value.get() == 1
        world.there.behave = iter(())
        await world.until_settled(900)
        assert {each.outcome for each in (await world.fates()).values()} == {Outcome.DELIVERED}
        await asyncio.sleep(1)
        assert await pauses(world) == [("leads", True), ("leads", False)]
        assert metrics.PAUSED.labels(NAME)._value.get() == 0
        await world.stop()

    caplog.set_level(logging.WARNING)
    run(main)
    assert "there: leads goes on again" in caplog.text


@pytest.mark.logs_errors(PAUSED)
def test_while_one_kind_is_turned_away_others_go_through_and_it_is_not_buried() -> None:
    async def main() -> None:
        world = World(There(), retry_alone_seconds=900)
        by_kind(world.there, "leads", "forbidden")
        world.start()
        for n in range(100):
            await world.publish(lead(f"l{n}", f"u{n}"), view(f"v{n}", n * 60_000))
            await asyncio.sleep(60)
        fates = await world.fates()
        assert {name[0] for name in fates} == {"v"}
        assert world.there.ids("views") == [f"v{n}" for n in range(100)]
        tried = sum(names[0].startswith("l") for names in world.there.requests)
        assert tried < 150
        world.there.on_send = None
        await world.until_settled(900)
        assert sorted(world.there.ids("leads")) == sorted(f"l{n}" for n in range(100))
        await world.stop()

    run(main)


@pytest.mark.logs_errors(PAUSED)
def test_after_a_restart_with_mended_settings_it_begins_at_once() -> None:
    async def main() -> None:
        world = World(There(behave=repeat("forbidden")))
        await world.publish(*(lead(f"l{n}", f"u{n}") for n in range(9)))
        world.start()
        await asyncio.sleep(3600)
        await world.stop()
        world.there.behave = iter(())
        world.start()
        await world.until_settled(10)
        await world.stop()
        assert len(world.there.ids("leads")) == 9

    run(main)


def test_one_event_that_alone_is_turned_away_pauses_nothing_and_is_buried_in_its_time() -> None:
    async def main() -> None:
        def only_odd(request: Request) -> None:
            odd = any(item.body["id"] == "odd" for item in request.items)
            world.there.behave = iter(["forbidden"] if odd else [])

        world = World(There(on_send=only_odd))
        await world.publish(lead("odd", "u0"))
        world.start()
        await asyncio.sleep(1800)
        await world.publish(lead("good", "u1"))
        await asyncio.sleep(1800)
        fates = await world.fates()
        await world.stop()
        assert fates["good"].outcome is Outcome.DELIVERED
        assert fates["odd"].reason is Reason.FAILED_ALONE
        assert await pauses(world) == []

    run(main)


def test_a_destination_that_is_out_of_order_as_a_whole_is_named_in_the_log_once_and_when_it_is_well(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        world = World(There(behave=repeat("unreachable")))
        await world.publish(*(lead(f"l{n}", f"u{n}") for n in range(9)))
        world.start()
        await asyncio.sleep(HOURS)
        world.there.behave = iter(())
        await world.until_settled(900)
        await asyncio.sleep(1)
        await world.stop()
        assert await pauses(world) == []

    caplog.set_level(logging.WARNING, "gateway.deliver")
    run(main)
    broken, well = (each.getMessage() for each in caplog.records)
    assert broken.startswith(
        "there: nothing goes through (no connection). Its events wait for 72 h"
    )
    assert "mend [destinations.there]" in broken
    assert well == "there: goes through again"


def test_a_breaker_that_needs_several_events_is_not_opened_by_one() -> None:
    breaker = Breaker(2)
    for _ in range(FAILURES * 2):
        breaker.failure(0.0, 0.5, [1])
    assert breaker.wait_seconds(0.0) == 0.0
    breaker.failure(0.0, 0.5, [2])
    assert breaker.is_open
    breaker.success()
    for _ in range(FAILURES):
        breaker.failure(0.0, 0.5, [1])
    assert breaker.wait_seconds(0.0) == 0.0


# What a successor keeps to.


def test_a_restart_keeps_to_what_the_destination_asked_for() -> None:
    async def main() -> None:
        world = World(There(behave=iter(["limited"])))
        await world.publish(lead("l1", "u1"))
        world.start()
        await world.until(lambda: len(world.there.requests) == 1)
        await asyncio.sleep(100)
        await world.kill()
        world.start()
        await world.publish(view("v1"), cart("c1", 0))
        await asyncio.sleep(450)
        assert len(world.there.requests) == 1
        await world.until_settled(60)
        await world.stop()
        assert world.there.ids("leads") == ["l1"]
        assert world.there.ids("views") == ["v1"]

    run(main)


@pytest.mark.parametrize("snapshot", [False, True])
def test_a_restart_keeps_to_the_time_of_the_next_try_but_lets_others_pass(snapshot: bool) -> None:  # noqa: FBT001 - a parameter
    def fails(world: World) -> Iterator[Behaviour]:
        while True:
            first = world.there.requests[-1][0] == "l1"
            yield "busy" if first else "ok"

    async def main() -> None:
        world = World(There())
        world.there.behave = fails(world)
        await world.publish(lead("l1", "u1"), lead("l2", "u1"))
        world.start()
        await world.until(lambda: len(world.there.requests) == 11)
        await asyncio.sleep(0.2)
        if snapshot:
            await world.stop()
        else:
            await world.kill()
        [due_ms] = [each.next_ms for each in await world.postponed()][-1:]
        world.there.behave = iter(())
        world.start()
        await world.publish(lead("l3", "u3"))
        await world.until(lambda: len(world.there.requests) == 12)
        assert world.there.requests[-1] == ["l3"]
        await world.until(lambda: len(world.there.requests) > 12)
        assert world.there.requests[12] == ["l1"]
        assert 0 <= world.clock.now_ms() - due_ms < 1000
        await world.until_settled(60)
        await world.stop()
        assert world.there.ids("leads") == ["l3", "l1", "l2"]

    run(main)


# The wall clock is set.


@pytest.mark.parametrize("jump_ms", [3_600_000, -3_600_000])
def test_a_wall_clock_that_is_set_buries_resends_and_stalls_nothing(jump_ms: int) -> None:
    async def main() -> None:
        world = World(There(), retry_alone_seconds=900, max_age_seconds=1800)
        by_kind(world.there, "leads", "busy")
        await world.publish(lead("l1", "u1"))
        world.start()
        await world.until(lambda: len(world.there.requests) == 3)
        world.there.on_send = None
        world.there.behave = _only(world, "l1")
        await world.publish(lead("l2", "u2"), view("v1"))
        await world.until(lambda: len(world.there.received) == 2)
        world.clock.skew_ms = jump_ms
        await asyncio.sleep(400)
        assert "l1" not in await world.fates()
        world.there.behave = iter(())
        await world.publish(view("v2", 400_000))
        await world.until_settled(310)
        await world.stop()
        fates = await world.fates()
        assert {each.outcome for each in fates.values()} == {Outcome.DELIVERED}
        assert sorted(world.there.ids("views")) == ["v1", "v2"]
        assert sorted(world.there.ids("leads")) == ["l1", "l2"]

    run(main)


def _only(world: World, name: str) -> Iterator[Behaviour]:
    while True:
        yield "busy" if world.there.requests[-1] == [name] else "ok"


@pytest.mark.parametrize("jump_ms", [3_600_000, -3_600_000])
def test_a_restart_after_the_clock_was_set_waits_no_longer_than_its_predecessor_would(
    jump_ms: int,
) -> None:
    async def main() -> None:
        world = World(There(behave=iter(["limited"])))
        await world.publish(lead("l1", "u1"))
        world.start()
        await world.until(lambda: len(world.there.requests) == 1)
        await asyncio.sleep(1)
        await world.kill()
        world.clock.skew_ms = jump_ms
        world.start()
        await world.until_settled(620)
        await world.stop()
        assert world.there.ids("leads") == ["l1"]

    run(main)
