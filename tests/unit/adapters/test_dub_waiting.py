"""Sales that wait for strangers hold up nobody: the real deliver in virtual time."""

import asyncio
from dataclasses import replace

import orjson
import pytest

from gateway.adapters.destinations.dub.destination import DubDestination
from gateway.adapters.destinations.dub.settings import DubSettings
from gateway.adapters.memory import MemoryBuffer
from gateway.deliver.consume import Deliver
from gateway.deliver.worker import OPEN_RECORDS, House
from gateway.model.attempt import Answered
from gateway.model.envelope import Envelope, encode
from gateway.model.journal import Answer, decode
from gateway.model.outcome import Outcome
from gateway.model.window import DedupSettings
from gateway.ports import Draft, Log
from tests.unit.deliver.world import lead
from tests.virtual import VirtualClock, run


class KnowsNobody:
    """An HttpClient to a Dub that takes leads, and attributes sales of their customers only."""

    def __init__(self, clock: VirtualClock) -> None:
        self.leads: dict[str, int] = {}
        self.sales: dict[str, int] = {}
        self.requests = 0
        self._clock = clock

    async def exchange(self, _method: str, url: str, _: object, body: bytes, __: float) -> Answered:
        await asyncio.sleep(0.1)
        self.requests += 1
        sent = orjson.loads(body)
        customer = sent["customerExternalId"]
        if url.endswith("lead"):
            self.leads[customer] = self._clock.now_ms()
            return Answered(200, None, b'{"link": {"id": "link_1"}}')
        if customer in self.leads:
            self.sales[customer] = self._clock.now_ms()
        return Answered(200, None, orjson.dumps({"sale": {} if customer in self.leads else None}))


def sale(number: int) -> Envelope:
    made = lead(f"s{number}", f"u{number}")
    event = {**made.event, "type": "sale", "amount": 100, "eventName": "Purchase"}
    return replace(made, event=event)


@pytest.mark.timeout(120)  # two virtual hours, and slower while coverage is measured
def test_what_comes_after_more_sales_of_strangers_than_may_wait_is_delivered_in_its_turn() -> None:
    strangers = OPEN_RECORDS + 1000

    async def main() -> None:
        clock = VirtualClock()
        http = KnowsNobody(clock)
        settings = DubSettings.model_validate(
            {"kind": "dub", "api_key": "dub_k", "rate_per_second": 50.0, "concurrency": 20}
        )
        buffer = MemoryBuffer(clock, 1)
        events = [*map(sale, range(strangers)), lead("l", "u10")]
        await buffer.publish(Log.EVENTS, [Draft(0, encode(each)) for each in events])
        house = House(buffer, {"shop": frozenset({"dub"})}, clock, DedupSettings(), 7 * 86_400.0)
        ending = asyncio.Event()
        destination = DubDestination(settings, http, clock)
        began_ms = clock.now_ms()
        deliver = asyncio.ensure_future(Deliver("dub", destination, settings, house).run(ending))
        await asyncio.sleep(7_300)
        ending.set()
        await deliver
        assert http.leads["u10"] - began_ms < 300_000, "in its turn, not after an hour"
        assert http.sales["u10"] - http.leads["u10"] < 2_000, "its sale waited, and goes at once"
        outcomes = [
            settled.outcome
            for record in await buffer.read(Log.OUTCOMES, 0, 0, 100_000)
            if isinstance(entry := decode(record.value), Answer)
            for settled in entry.settled
        ]
        assert outcomes.count(Outcome.UNATTRIBUTED) == strangers - 1
        assert outcomes.count(Outcome.DELIVERED) == 2
        assert http.requests < 2 * strangers, "to wait costs few requests"

    run(main)
