"""Replay: a dead letter's event goes to its destination again, once, at its original's place."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import repeat
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from gateway.adapters.memory import MemoryBuffer
from gateway.model import dead
from gateway.model.attempt import Tried
from gateway.model.envelope import Envelope, decode
from gateway.model.life import Place
from gateway.model.outcome import Outcome, Reason
from gateway.model.window import DedupSettings
from gateway.ports import BufferUnavailableError, Draft, Log
from gateway.replay import Did
from tests.unit.deliver.letters import console
from tests.unit.deliver.test_any_interleaving import (
    BEHAVIOURS,
    carts,
    closes,
    leads,
    views,
)
from tests.unit.deliver.test_any_interleaving import _do as also
from tests.unit.deliver.world import Behaviour, There, World, cart, lead, view
from tests.virtual import START_MS, run

HOUR = 3600.0


async def buried(*envelopes: Envelope, behave: Iterator[Behaviour] | None = None) -> World:
    """Return a world in which the destination has refused all of these; its window is short."""
    dedup = DedupSettings(window_seconds=HOUR)
    world = World(There(behave=behave or repeat("refuse")), dedup=dedup)
    await world.publish(*envelopes)
    world.start()
    await world.until_settled()
    world.there.behave = iter(())
    return world


def fails(*behaviours: Behaviour) -> Iterator[Behaviour]:
    """Return what befalls the first requests; then all is well."""
    return iter(behaviours)


async def letters_of(buffer: MemoryBuffer) -> list[dead.DeadLetter]:
    records = [dead.decode(each.value) for each in await buffer.read(Log.DEAD, 0, 0, 1000)]
    return [each for each in records if isinstance(each, dead.DeadLetter)]


async def outcomes(world: World) -> list[tuple[Outcome, Reason | None]]:
    """Return the outcomes of the records of partition 0, in order."""
    found = await world.outcomes()
    return [(found[key][0].outcome, found[key][0].reason) for key in sorted(found)]


def test_a_replay_goes_to_its_destination_again_and_asking_twice_delivers_once() -> None:
    async def main() -> None:
        world = await buried(view("v1"))
        replay, _ = console(world)
        [first] = await replay.replay([Place(0, 0)])
        assert (first.did, first.became) == (Did.REPLAYED, Place(0, 1))
        [second] = await replay.replay([Place(0, 0)])
        assert second.did is Did.ALREADY
        assert "replayed at 20" in second.detail
        await world.until_settled()
        await world.stop()
        assert world.there.ids("views") == ["v1"]
        assert await outcomes(world) == [
            (Outcome.DEAD, Reason.REFUSED),
            (Outcome.DELIVERED, None),
        ]

    run(main)


def test_two_consoles_that_replay_at_once_deliver_once() -> None:
    async def main() -> None:
        world = await buried(view("v1"))
        both = (console(world)[0], console(world)[0])
        await asyncio.gather(*(each.replay([Place(0, 0)]) for each in both))
        await world.until_settled()
        await world.stop()
        assert world.there.ids("views") == ["v1"]
        assert (await outcomes(world))[1:] == [
            (Outcome.DELIVERED, None),
            (Outcome.DUPLICATE, Reason.REPEATED),
        ]

    run(main)


def test_a_replay_that_is_buried_makes_a_letter_of_the_next_number() -> None:
    async def main() -> None:
        world = await buried(view("v1"))
        replay, _ = console(world)
        world.there.behave = iter(["refuse"])
        await replay.replay([Place(0, 0)])
        await world.until_settled()
        first, second = await letters_of(world.buffer)
        assert (first.number, first.offset, first.origin) == (1, 0, None)
        assert (second.number, second.offset, second.origin) == (2, 1, 0)
        letters = console(world)[1]
        await letters.catch_up(Log.DEAD)
        [place] = letters.open()
        await replay.replay([place])
        await world.until_settled()
        await world.stop()
        assert world.there.ids("views") == ["v1"]

    run(main)


@pytest.mark.parametrize("over", [HOUR / 2, HOUR * 1.2])
def test_a_replay_whose_console_died_before_it_said_so_is_not_delivered_again(over: float) -> None:
    async def main() -> None:
        world = await buried(view("v1"))
        world.buffer.fail_next(Log.EVENTS, written=True)
        with pytest.raises(BufferUnavailableError):
            await console(world)[0].replay([Place(0, 0)])
        await world.until_settled()
        await asyncio.sleep(over)
        await world.publish(view("between", round(over * 1000)))
        [result] = await console(world)[0].replay([Place(0, 0)])
        assert result.did is Did.REPLAYED
        await world.until_settled()
        await world.stop()
        assert world.there.ids("views") == ["v1", "between"]
        [*_, last] = await outcomes(world)
        # Beyond the window nobody knows any more: a view is in doubt then.
        in_window = over < HOUR
        assert last[0] is (Outcome.DUPLICATE if in_window else Outcome.DEAD)
        assert last[1] is (Reason.REPEATED if in_window else Reason.UNKNOWN)

    run(main)


def test_a_replayed_cart_is_sent_with_the_time_of_its_original() -> None:
    async def main() -> None:
        world = await buried(cart("c1", 0), behave=fails("refuse"))
        await console(world)[0].replay([Place(0, 0)])
        await world.until_settled()
        await world.publish(cart("c1", 500, 2))
        await world.until_settled()
        await world.stop()
        sent = [body["sent_ms"] - START_MS for _, body in world.there.received]
        assert sent == [0, 1000]

    run(main)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_replayed_cart_that_moved_on_is_superseded(restarted: bool) -> None:  # noqa: FBT001 - a parameter
    async def main() -> None:
        world = await buried(cart("c1", 0), behave=fails("refuse"))
        await world.publish(cart("c1", 1000, 2))
        await world.until_settled()
        if restarted:
            await world.kill()
            world.start()
        await console(world)[0].replay([Place(0, 0)])
        await world.until_settled()
        await world.stop()
        assert world.there.ids("carts") == ["c1-1000-v1"]
        assert (await outcomes(world))[2] == (Outcome.SUPERSEDED, Reason.NEWER_CART)

    run(main)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_replayed_cart_that_the_window_no_longer_reaches_is_superseded(restarted: bool) -> None:  # noqa: FBT001 - a parameter
    async def main() -> None:
        world = World(There(behave=iter(["refuse"])), dedup=DedupSettings(window_records=5))
        await world.publish(cart("c1", 0))
        world.start()
        await world.until_settled()
        older = [cart("c1", -1000 - n, sender="v2") for n in range(3)]
        await world.publish(view("v1"), view("v2"), view("v3"), *older)
        await world.until_settled()
        if restarted:
            await world.kill()
            world.start()
        await console(world)[0].replay([Place(0, 0)])
        await world.until_settled()
        await world.stop()
        assert world.there.ids("carts") == []
        assert (await outcomes(world))[7] == (Outcome.SUPERSEDED, Reason.NEWER_CART)

    run(main)


def test_a_replay_knows_what_was_tried_before_it_also_after_a_restart() -> None:
    async def main() -> None:
        seen: list[Tried] = []
        world = await buried(lead("l1", "u1"), behave=fails("busy", "refuse"))
        world.there.on_send = lambda request: seen.append(request.items[0].tried)
        world.there.behave = iter(["unreachable"])
        await console(world)[0].replay([Place(0, 0)])
        while len(await world.postponed()) < 2:
            await asyncio.sleep(0.01)  # shorter than any backoff
        await world.kill()
        world.start()
        await world.until_settled()
        await world.stop()
        assert seen == [Tried.FAILED] * 2

    run(main)


def test_what_nobody_takes_or_can_read_is_not_replayed() -> None:
    async def main() -> None:
        world = await buried(view("v1"))
        envelope = view("v2")
        kept = {"event": {"type": "product"}, "v": 9}
        odd = dead.DeadLetter("there", "shop", "unreadable", 0, 7, kept)
        gone = dead.DeadLetter("gone", "shop", "refused", 0, 8, {"event": envelope.event})
        for each in (odd, gone):
            await world.buffer.publish(Log.DEAD, [_draft(each)])
        results = await console(world)[0].replay([Place(0, 1), Place(0, 2), Place(0, 9)])
        assert [each.did for each in results] == [
            Did.IMPOSSIBLE,
            Did.IMPOSSIBLE,
            Did.NOT_FOUND,
        ]
        assert "format 9" in results[0].detail
        assert "gone takes no product events of site shop" in results[1].detail
        await world.stop()

    run(main)


def test_a_dropped_letter_is_not_replayed_and_a_replayed_one_not_dropped() -> None:
    async def main() -> None:
        world = await buried(view("v1"), view("v2"), behave=repeat("refuse"))
        replay, letters = console(world)
        assert [each.did for each in await replay.drop([Place(0, 0)])] == [Did.DROPPED]
        await replay.replay([Place(0, 1)])
        for again in (replay.drop, replay.replay):
            results = await again([Place(0, 0), Place(0, 1)])
            assert [each.did for each in results] == [Did.ALREADY] * 2
        await letters.catch_up(Log.DEAD)
        assert letters.open() == []
        await world.until_settled()
        await world.stop()
        assert world.there.ids("views") == ["v2"]

    run(main)


def _draft(letter: dead.DeadLetter) -> Draft:
    return Draft(0, dead.encode(letter))


events = st.one_of(carts, carts, closes, views, leads)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.lists(events, min_size=1, max_size=5)),
        st.tuples(st.just("wait"), st.sampled_from([0.06, 1.0, 7.0, 61.0, 700.0])),
        st.tuples(st.just("kill"), st.none()),
        st.tuples(st.just("lose publish"), st.sampled_from([Log.EVENTS, Log.DEAD, Log.OUTCOMES])),
        st.tuples(st.just("lose answer"), st.sampled_from([Log.EVENTS, Log.DEAD, Log.OUTCOMES])),
        st.tuples(st.just("replay"), st.integers(1, 3)),
        st.tuples(st.just("behave"), st.sampled_from(BEHAVIOURS)),
        st.tuples(st.just("killed replay"), st.integers(0, 12)),
    ),
    min_size=2,
    max_size=25,
)


LOSSES = {"lose publish", "lose answer"}


@pytest.mark.timeout(120)  # many examples, and slower while coverage is measured
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(events, min_size=3, max_size=8), steps, st.sampled_from([1, 2]))
@example(  # published unknown to the console, asked for again past the window, and once more
    [view("v0")],
    [
        ("lose publish", Log.EVENTS),
        ("replay", 1),
        ("lose publish", Log.DEAD),
        ("behave", "ok"),
        ("replay", 1),
        ("wait", 700.0),
        ("publish", [cart("c1", 0)]),
        ("replay", 1),
    ],
    1,
)
def test_replays_in_any_interleaving_deliver_once_and_no_cart_goes_back(
    first: list[Envelope], plan: list[tuple[str, Any]], partitions: int
) -> None:
    run(lambda: _play([("publish", first), ("wait", 7.0), *plan], partitions))


async def _play(plan: list[tuple[str, Any]], partitions: int) -> None:
    dedup = DedupSettings(window_seconds=600)
    there = There(behave=repeat("refuse"))
    world = World(there, partitions=partitions, batch_events=4, dedup=dedup)
    world.start()
    for step, what in plan:
        await _do(world, step, what)
    world.buffer.release()
    there.behave = iter(())
    await world.until_settled(200_000)
    replay, letters = console(world)
    await letters.catch_up(Log.DEAD)
    if letters.all():
        await replay.replay(letters.all())
    await world.until_settled(200_000)
    await world.stop()
    steps = {step for step, _ in plan}
    told_late = ("wait", 700.0) in plan and steps & {*LOSSES, "killed replay"}
    # Killed between a letter and the outcome, it tries the original again, beside its replay.
    lost = {("lose publish", Log.DEAD), ("lose answer", Log.DEAD)}
    buried_late = ("kill", None) in plan and any(each in lost for each in plan if each[0] in LOSSES)
    await _account(world, exactly=not (told_late or buried_late))


async def _do(world: World, step: str, what: Any) -> None:
    match step:
        case "publish":
            if world.clock.now_ms() - START_MS < 500_000:  # ingest refuses what is too old
                with suppress(BufferUnavailableError):
                    await world.publish(*what)
        case "behave":
            world.there.behave = iter([what] * 3)
        case "lose publish" | "lose answer":
            world.buffer.fail_next(what, written=step == "lose answer")
        case "replay":
            await asyncio.gather(*(_replay(world) for _ in range(what)))
        case "killed replay":
            await _killed(world, what)
        case _:
            await also(world, step, what)


async def _replay(world: World) -> None:
    """A console of its own replays all that there is; what the buffer refuses is left."""
    replay, letters = console(world)
    await letters.catch_up(Log.DEAD)
    if letters.all():
        with suppress(BufferUnavailableError):
            await replay.replay(letters.all())


async def _killed(world: World, turns: int) -> None:
    task = asyncio.ensure_future(_replay(world))
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def _account(world: World, *, exactly: bool) -> None:
    """Account for all.

    Not `exactly`: a replay may have been published unknown to the console, and asked for again
    when the window no longer reached it: then it is in doubt, and sent again where that is safe.
    """
    found = await world.outcomes()
    delivered: Counter[tuple[int, int, str]] = Counter()
    doubted: set[str] = set()
    for partition in range(world.buffer.partitions):
        for record in await world.buffer.read(Log.EVENTS, partition, 0, 1_000_000):
            envelope = decode(record.value)
            fate = found.pop((partition, record.offset))[0]
            origin = envelope.replay.origin if envelope.replay else record.offset
            if exactly or envelope.type == "product":
                delivered[partition, origin, envelope.id] += fate.outcome is Outcome.DELIVERED
            if fate.reason is Reason.UNKNOWN:
                doubted.add(envelope.id)
    assert not found
    # Who replays what was in doubt takes it upon himself that it may arrive twice.
    assert all(number <= 1 or key[2] in doubted for key, number in delivered.items()), delivered
    sent = Counter(world.there.ids("views"))
    assert all(number == 1 or name in doubted for name, number in sent.items())
    last: dict[str, int] = {}
    for kind, body in world.there.received:
        if kind == "carts":
            assert body["sent_ms"] >= last.get(body["cartReference"], 0), "a cart went back"
            last[body["cartReference"]] = body["sent_ms"]
