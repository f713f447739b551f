"""Dub's rate limit, used up by the real deliver in virtual time, against the stand-in's limit."""

import asyncio
from collections.abc import Sequence

import pytest

from gateway.adapters.destinations.dub.destination import DubDestination
from gateway.adapters.destinations.dub.settings import DubSettings
from gateway.adapters.memory import MemoryBuffer
from gateway.deliver.consume import Deliver
from gateway.deliver.worker import House
from gateway.model.answers import succeeded
from gateway.model.attempt import Answered
from gateway.model.envelope import encode
from gateway.model.window import DedupSettings
from gateway.ports import Draft, Log
from gateway.sandbox.record import RateLimit
from tests.unit.deliver.world import lead
from tests.virtual import VirtualClock, run

MINUTE_MS = 60_000
BUSINESS, ADVANCED = 1_200, 3_000
"""Requests a minute of Dub's plans (dub.md 2)."""
ABOVE = {"rate_per_second": 49.0}
"""As for the larger plan, with a key of the smaller one."""
TAKEN = b'{"click": {"id": "c"}, "link": {"id": "link_1"}, "customer": {}}'


class LimitedDub:
    """An HttpClient to a Dub that takes any lead, within its limit of a minute.

    Beyond it the answer is Dub's: `Retry-After` is the end of the minute in epoch milliseconds.
    """

    def __init__(self, clock: VirtualClock, limit: int) -> None:
        self.statuses: list[int] = []
        self._clock = clock
        self._rate = RateLimit(limit, MINUTE_MS, clock.now_ms)

    async def exchange(self, *_: object) -> Answered:
        number = len(self.statuses)
        await asyncio.sleep(0.05 + number % 7 * 0.05)  # 0.05 to 0.35 s there
        admitted = self._rate.admit()
        self.statuses.append(200 if admitted else 429)
        await asyncio.sleep(0.05)
        if admitted:
            return Answered(200, None, TAKEN)
        reset_ms = (self._clock.now_ms() // MINUTE_MS + 1) * MINUTE_MS
        return Answered(429, str(reset_ms), b"")


async def statuses_of(minutes: int, limit: int, **chosen: float) -> Sequence[int]:
    """Return the statuses of so many minutes of deliver with more to do than it may."""
    clock = VirtualClock()
    http = LimitedDub(clock, limit)
    settings = DubSettings.model_validate({"kind": "dub", "api_key": "dub_k", **chosen})
    buffer = MemoryBuffer(clock, 1)
    leads = [lead(f"l{n}", f"u{n}") for n in range(limit * (minutes + 1))]
    await buffer.publish(Log.EVENTS, [Draft(0, encode(each)) for each in leads])
    house = House(buffer, {"shop": frozenset({"dub"})}, clock, DedupSettings(), 7 * 86_400.0)
    ending = asyncio.Event()
    destination = DubDestination(settings, http, clock)
    deliver = asyncio.ensure_future(Deliver("dub", destination, settings, house).run(ending))
    await asyncio.sleep(minutes * 60)
    found = list(http.statuses)
    ending.set()
    await deliver
    return found


@pytest.mark.parametrize(
    ("limit", "chosen"),
    [(BUSINESS, {}), (ADVANCED, {"rate_per_second": 49.0, "concurrency": 25})],
)
def test_dubs_limit_is_used_up_and_hardly_ever_passed(limit: int, chosen: dict[str, float]) -> None:
    statuses = run(lambda: statuses_of(3, limit, **chosen))
    taken = sum(map(succeeded, statuses))
    assert taken > 0.97 * limit * 3
    assert taken >= 0.99 * len(statuses)


@pytest.mark.parametrize("chosen", [{"rate_per_second": 25.0}, ABOVE, {**ABOVE, "concurrency": 25}])
def test_beyond_the_plans_rate_it_is_used_up_too_and_at_most_one_in_a_hundred_is_refused(
    chosen: dict[str, float],
) -> None:
    statuses = run(lambda: statuses_of(8, BUSINESS, **chosen))
    taken = sum(map(succeeded, statuses))
    assert taken > 0.8 * BUSINESS * 8
    assert taken >= 0.99 * len(statuses)
