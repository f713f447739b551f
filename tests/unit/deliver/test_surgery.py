"""Batch surgery: whatever is wrong with a batch, exactly that is buried and all else arrives."""

from math import ceil

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.model.attempt import Request
from gateway.model.outcome import Outcome, Reason
from tests.unit.deliver.world import There, World, cart, view
from tests.virtual import run


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 40),
    st.sets(st.integers(0, 39), max_size=8),
    st.integers(1, 40),
    st.lists(st.sampled_from(["ok", "busy", "unreachable"]), max_size=4),
)
def test_only_what_is_wrong_is_buried_and_the_rest_arrives_once(
    events: int, poisoned: set[int], most: int, behaviours: list[str]
) -> None:
    async def main() -> None:
        poison = frozenset(f"v{n}" for n in poisoned)
        there = There(behave=iter(behaviours), poison=poison)  # type: ignore[arg-type] # of those it knows
        world = World(there, batch_events=most, concurrency=1)
        names = [f"v{n}" for n in range(events)]
        await world.publish(*(view(name) for name in names))
        world.start()
        await world.until_settled()
        await world.stop()
        fates = await world.fates()
        bad = {name for name, fate in fates.items() if fate.outcome is Outcome.DEAD}
        assert bad == poison & set(names)
        assert {fates[name].reason for name in bad} <= {Reason.REFUSED}
        assert sorted(there.ids("views")) == sorted(set(names) - bad)
        assert all(len(ids) <= most for ids in there.requests)
        # Halving: a bad one costs no more than two requests for each time that its batch is cut.
        batches = ceil(events / most)
        cuts = (most - 1).bit_length()
        assert len(there.requests) <= batches + len(behaviours) * (1 + cuts) + 2 * cuts * len(bad)

    run(main)


def test_a_split_is_written_as_such_and_waits_for_nothing() -> None:
    async def main() -> None:
        world = World(There(poison=frozenset({"v1"})))
        await world.publish(view("v0"), view("v1"), view("v2"))
        world.start()
        await world.until_settled(10)
        await world.stop()
        assert {each.reason for each in await world.postponed()} == {Reason.SPLIT}
        assert sorted(world.there.ids("views")) == ["v0", "v2"]

    run(main)


def test_of_one_cart_a_batch_holds_the_newest_state_alone() -> None:
    async def main() -> None:
        batches: list[list[str]] = []

        def note(request: Request) -> None:
            batches.append([item.body["cartReference"] for item in request.items])

        world = World(There(on_send=note))
        states = [cart(f"c{n % 3}", n * 1000, n) for n in range(9)]
        await world.publish(*states)
        world.start()
        await world.until_settled()
        await world.stop()
        assert batches == [["c0", "c1", "c2"]]
        assert [world.there.carts[f"c{n}"]["items"][0]["quantity"] for n in range(3)] == [6, 7, 8]
        fates = await world.fates()
        superseded = [n for n, fate in fates.items() if fate.outcome is Outcome.SUPERSEDED]
        assert len(superseded) == 6

    run(main)
