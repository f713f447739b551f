"""What a successor knows: it repeats nothing that was done, and computes what was computed."""

import asyncio
from collections.abc import Iterator

from gateway.model.envelope import encode
from gateway.model.outcome import Outcome
from gateway.ports import Draft, Log
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
