"""A sale whose request had no answer: Dub may still be at work on it, and records a twin too."""

import asyncio
from contextlib import suppress

import orjson
import pytest

from gateway.adapters.destinations.dub.destination import DubDestination
from gateway.adapters.destinations.dub.settings import DubSettings
from gateway.adapters.memory import MemoryBuffer
from gateway.deliver.consume import Deliver
from gateway.deliver.worker import House
from gateway.model.attempt import Answered, Unanswered
from gateway.model.envelope import Envelope, encode
from gateway.model.instant import format_ms
from gateway.model.outcome import Reason
from gateway.model.window import DedupSettings
from gateway.ports import Draft, Log
from tests.virtual import START_MS, VirtualClock, run

TIMEOUT_SECONDS = 10.0
"""The default of `timeout_seconds`."""


class HungDub:
    """An HttpClient to a Dub that is slow with the first request, and goes on without its caller.

    It looks for what it kept of an invoice at the start, and keeps it at the end (dub.md 2).
    """

    def __init__(self, seconds: float) -> None:
        self.recorded: list[str] = []
        self.begun = 0
        self._seconds = seconds
        self._kept: set[str] = set()
        self.at_work: set[asyncio.Task[bytes]] = set()

    async def exchange(
        self, _method: str, _url: str, _headers: object, body: bytes, *_: object
    ) -> Answered | Unanswered:
        self.begun += 1
        task = asyncio.ensure_future(self._sale(orjson.loads(body), self._seconds))
        self._seconds = 0.1
        self.at_work.add(task)
        try:
            said = await asyncio.wait_for(asyncio.shield(task), TIMEOUT_SECONDS)
        except TimeoutError:
            return Unanswered(Reason.NO_ANSWER, "no answer within 10 s")
        return Answered(200, None, said)

    async def _sale(self, sale: dict[str, str], seconds: float) -> bytes:
        known = sale["invoiceId"] in self._kept
        await asyncio.sleep(seconds)
        if not known:
            self.recorded.append(sale["invoiceId"])
            self._kept.add(sale["invoiceId"])
        return orjson.dumps(
            {"eventName": "Purchase", "customer": {"id": "c"}, "sale": {"amount": 1}}
        )


def sale() -> Envelope:
    event = {
        "type": "sale",
        "id": "s",
        "time": format_ms(START_MS),
        "amount": 4990,
        "invoiceId": "o-1",
        "customerId": "u-1",
    }
    return Envelope("shop", "sale:shop:o-1", START_MS, START_MS, "full", event)


@pytest.mark.parametrize("befalls", ["nothing", "kill -9"])
@pytest.mark.parametrize("seconds", [9.0, 11.0, 25.0, 55.0])
def test_a_sale_is_recorded_once_however_long_dub_is_at_work_on_it(
    seconds: float, befalls: str
) -> None:
    async def main() -> HungDub:
        clock = VirtualClock()
        http = HungDub(seconds)
        settings = DubSettings.model_validate({"kind": "dub", "api_key": "dub_k"})
        buffer = MemoryBuffer(clock, 1)
        await buffer.publish(Log.EVENTS, [Draft(0, encode(sale()))])
        house = House(buffer, {"shop": frozenset({"dub"})}, clock, DedupSettings(), 7 * 86_400.0)
        ending = asyncio.Event()

        def start() -> asyncio.Task[None]:
            destination = DubDestination(settings, http, clock)
            return asyncio.ensure_future(Deliver("dub", destination, settings, house).run(ending))

        deliver = start()
        if befalls == "kill -9":
            while not http.begun:
                await asyncio.sleep(0.1)
            deliver.cancel()
            with suppress(asyncio.CancelledError):
                await deliver
            deliver = start()
        async with asyncio.timeout(300):
            while (position := buffer.committed("dub", 0)) is None or position.offset == 0:
                await asyncio.sleep(1)
        ending.set()
        await deliver
        await asyncio.gather(*http.at_work)
        return http

    http = run(main)
    assert http.recorded == ["o-1"]
    assert http.begun == (1 if seconds < TIMEOUT_SECONDS and befalls == "nothing" else 2)
