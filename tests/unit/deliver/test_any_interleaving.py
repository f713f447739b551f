"""Any interleaving of duplicates, reorderings, failures, crashes and hand-overs (rules 2 to 4)."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.model.carts import Carts, Update
from gateway.model.envelope import Envelope, decode
from gateway.model.journal import Answer, Attempt, Settled
from gateway.model.outcome import Outcome, Reason
from gateway.ports import Log
from tests.unit.deliver.world import Behaviour, There, World, cart, lead, view
from tests.virtual import run

BEHAVIOURS: tuple[Behaviour, ...] = (
    "ok",
    "ok",
    "ok",
    "busy",
    "refuse",
    "lost-done",
    "lost-undone",
    "unreachable",
    "slow",
)

carts = st.builds(
    cart,
    st.sampled_from(["c1", "c2", "c3"]),
    st.integers(0, 20).map(lambda n: n * 700),
    st.integers(0, 3),
    sender=st.sampled_from(["v1", "v2"]),
)
closes = st.builds(
    cart,
    st.sampled_from(["c1", "c2", "c3"]),
    st.integers(0, 20).map(lambda n: n * 700),
    st.just(0),
    sender=st.just("server"),
    close=st.just(value=True),
)
views = st.builds(view, st.integers(0, 12).map("v{}".format))
leads = st.integers(0, 8).map(lambda n: lead(f"l{n}", f"u{n % 3}"))
events = st.one_of(carts, carts, closes, views, leads)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.lists(events, min_size=1, max_size=6)),
        st.tuples(st.just("publish"), st.lists(events, min_size=1, max_size=6)),
        st.tuples(st.just("wait"), st.sampled_from([0.01, 0.06, 0.3, 1.0, 7.0, 61.0])),
        st.tuples(st.just("kill"), st.none()),
        st.tuples(st.just("stop"), st.none()),
        st.tuples(st.just("outage"), st.sampled_from([0.2, 3.0])),
        st.tuples(st.just("lose publish"), st.booleans()),
        st.tuples(st.just("hand over"), st.integers(0, 1)),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(steps, st.lists(st.sampled_from(BEHAVIOURS), max_size=30), st.sampled_from([1, 2]))
def test_each_event_ends_in_one_outcome_and_each_cart_in_its_newest_state(
    plan: list[tuple[str, Any]], behaviours: list[Behaviour], partitions: int
) -> None:
    run(lambda: _play(plan, iter(behaviours), partitions))


async def _play(plan: list[tuple[str, Any]], behave: Iterator[Behaviour], partitions: int) -> None:
    world = World(There(behave=behave), partitions=partitions, batch_events=4)
    world.start()
    for step, what in plan:
        await _do(world, step, what)
    world.buffer.release()
    await world.until_settled()
    await world.stop()
    await _account(world)


async def _do(world: World, step: str, what: Any) -> None:  # noqa: C901, PLR0912 - one arm a step
    match step:
        case "publish":
            await world.publish(*what)
        case "wait":
            await asyncio.sleep(what)
        case "kill":
            await world.kill()
            world.start()
        case "stop":
            await world.stop()
            world.start()
        case "outage":
            world.buffer.outage = True
            await asyncio.sleep(what)
            world.buffer.outage = False
        case "lose publish":
            for log in (Log.OUTCOMES, Log.DEAD):
                world.buffer.fail_next(log, written=what)
        case "hand over":
            if what < world.buffer.partitions:
                with suppress(KeyError):
                    await world.buffer.hand_over("there", what)
        case _:
            raise AssertionError(step)


async def _account(world: World) -> None:
    outcomes = await world.outcomes()
    fold = {n: Carts(1000) for n in range(world.buffer.partitions)}
    newest: dict[str, Envelope] = {}
    seen: set[str] = set()
    fates: dict[str, Settled] = {}
    for partition in range(world.buffer.partitions):
        for record in await world.buffer.read(Log.EVENTS, partition, 0, 1_000_000):
            envelope = decode(record.value)
            written = outcomes.pop((partition, record.offset))
            fate = written[0]
            if envelope.dedup_key in seen:
                assert fate.outcome is Outcome.DUPLICATE
                continue
            seen.add(envelope.dedup_key)
            assert fate.outcome is not Outcome.DUPLICATE
            fates[envelope.id] = fate
            if envelope.type == "cart":
                update = Update(
                    record.offset,
                    envelope.sender,
                    envelope.own_ms,
                    envelope.corrected_ms,
                    closes=envelope.derived is not None,
                )
                reference = envelope.event["cartReference"]
                if fold[partition].see(reference, update) is not None:
                    newest[reference] = envelope
    assert not outcomes, "outcomes of records that do not exist"
    _check_carts(world, newest, fates)
    await _check_views(world, fates)
    for name in set(world.there.ids("leads")):
        assert fates[name].outcome in {Outcome.DELIVERED, Outcome.DEAD}


def _check_carts(world: World, newest: dict[str, Envelope], fates: dict[str, Settled]) -> None:
    for reference, envelope in newest.items():
        fate = fates[envelope.id]
        if fate.outcome is Outcome.DELIVERED:
            assert world.there.carts[reference]["id"] == envelope.id
        else:
            assert (fate.outcome, fate.reason) == (Outcome.DEAD, Reason.REFUSED)
    last: dict[str, int] = {}
    for kind, body in world.there.received:
        if kind == "carts":
            assert body["sent_ms"] >= last.get(body["cartReference"], 0), "a cart went back"
            last[body["cartReference"]] = body["sent_ms"]


async def _check_views(world: World, fates: dict[str, Settled]) -> None:
    """A view is sent once, or was in a request in doubt and is buried as unknown."""
    sent = Counter(world.there.ids("views"))
    assert all(count == 1 for count in sent.values()), sent
    for name, fate in fates.items():
        if not name.startswith("v"):
            continue
        if fate.outcome is Outcome.DELIVERED:
            assert sent[name] == 1
        else:
            assert fate.reason in {Reason.UNKNOWN, Reason.REFUSED}, fate
    attempts = [entry for _, entry in await world.entries() if isinstance(entry, Attempt)]
    answers = [entry for _, entry in await world.entries() if isinstance(entry, Answer)]
    assert len(answers) >= len(world.there.requests) - len(attempts)
