"""Voyado's recommended rate, kept by the real deliver in virtual time."""

import asyncio
from dataclasses import replace

from gateway.adapters.destinations.voyado import VoyadoDestination, VoyadoSettings
from gateway.adapters.memory import MemoryBuffer
from gateway.deliver.consume import Deliver
from gateway.deliver.worker import House
from gateway.model.attempt import Answered
from gateway.model.envelope import encode
from gateway.model.window import DedupSettings
from gateway.ports import Draft, Log
from tests.sample import NOW_MS, envelope
from tests.virtual import START_MS, VirtualClock, run

RECOMMENDED = 50
"""Requests a second and key: fewer than these (voyado.md 3)."""


class TakesAll:
    """An HttpClient to a quick Voyado, which notes when requests came."""

    def __init__(self) -> None:
        self.at: list[float] = []

    async def exchange(self, *_: object) -> Answered:
        self.at.append(asyncio.get_running_loop().time())
        await asyncio.sleep(0.01)
        return Answered(200, None, b"")


def test_in_no_second_are_there_as_many_requests_as_voyado_recommends_to_stay_below() -> None:
    async def main() -> list[float]:
        clock = VirtualClock()
        clock.skew_ms = NOW_MS - START_MS
        http, buffer = TakesAll(), MemoryBuffer(clock, 1)
        chosen = {"kind": "voyado", "base_url": "https://c.voyado.com", "api_key": "k"}
        settings = VoyadoSettings.model_validate({**chosen, "batch_events": 1})
        house = House(buffer, {"shop": frozenset({"voyado"})}, clock, DedupSettings(), 604_800.0)
        ending = asyncio.Event()
        destination = VoyadoDestination(settings, http, clock)
        deliver = asyncio.ensure_future(Deliver("voyado", destination, settings, house).run(ending))
        await asyncio.sleep(30)  # rested
        carts = [
            replace(envelope("cart", cartReference=f"c-{n}"), dedup_key=f"cart|{n}")
            for n in range(400)
        ]
        await buffer.publish(Log.EVENTS, [Draft(0, encode(each)) for each in carts])
        await asyncio.sleep(30)
        ending.set()
        await deliver
        return http.at

    at = run(main)
    assert len(at) == 400
    in_a_second = max(sum(start <= each < start + 1 for each in at) for start in at)
    assert in_a_second < RECOMMENDED
    assert at[-1] - at[0] < 11, "and the rate is used"
