"""What a successor knows: it repeats nothing that was done, and computes what was computed."""

import asyncio
from collections.abc import Iterator

from gateway.model.envelope import encode
from gateway.ports import Draft, Log
from tests.unit.deliver.world import Behaviour, There, World, view
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
