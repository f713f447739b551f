"""A bad destination hurts nobody else: what becomes of events elsewhere is what would without it.

What it costs in time is measured by `make bench`.
"""

from contextlib import AsyncExitStack
from pathlib import Path

import orjson
import pytest
from aiohttp import ClientSession

from gateway.adapters.clock import SystemClock
from gateway.model.instant import format_ms
from tests.bench.isolation import CASES, Good, serve
from tests.bench.subjects import running
from tests.gateways import ORIGIN

pytestmark = pytest.mark.system

REQUESTS = 40
EVENTS = 10
LATEST_MS = 4000
"""From an event's receipt to its arrival; about 200 on a quiet machine."""
BAD = {name: bad for name, bad in CASES.items() if name != "well"}
HOOK = """
[destinations.hook]
kind = "webhook"
url = "{url}"
secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr"]
allow_private_addresses = true
batch_seconds = 0.1
"""
VOYADO = """
[destinations.{name}]
kind = "voyado"
base_url = "{url}"
api_key = "sandbox-voyado-key"
batch_seconds = 0.1
timeout_seconds = 1
"""


async def test_beside_four_bad_destinations_every_event_is_taken_and_delivered_once(
    tmp_path: Path,
) -> None:
    good = Good()
    async with AsyncExitStack() as stack:
        text = HOOK.format(url=await stack.enter_async_context(serve(good.take)))
        names = [f"bad{number}" for number in range(len(BAD))]
        for name, bad in zip(names, BAD.values(), strict=True):
            text += VOYADO.format(name=name, url=await stack.enter_async_context(bad()))
        whole = await stack.enter_async_context(running(text, ("hook", *names), tmp_path))
        ids = await post(whole.url)
        await whole.gateway.until_drained(("hook",), 20)
        metrics = await whole.gateway.metrics()
    assert sorted(good.ids) == sorted(ids)
    assert max(good.took_ms) < LATEST_MS
    prefix = 'gateway_deliveries_total{destination="hook"'
    outcomes = {name: count for name, count in metrics.items() if name.startswith(prefix) and count}
    assert outcomes == {f'{prefix},outcome="delivered"}}': len(ids)}
    for name in names:
        taken = metrics.get(f'gateway_deliveries_total{{destination="{name}",outcome="delivered"}}')
        assert not taken, f"{name} is not as bad as it should be"


async def post(url: str) -> list[str]:
    """Post views; return their ids."""
    headers = {"Origin": ORIGIN, "Content-Type": "text/plain"}
    context = {"consent": "full", "contactId": "contact-1", "language": "sv-SE"}
    ids = []
    async with ClientSession() as session:
        for request in range(REQUESTS):
            now = format_ms(SystemClock().now_ms())
            events = [
                {"type": "product", "id": f"v-{request}-{n}", "time": now, "itemId": "S"}
                for n in range(EVENTS)
            ]
            body = orjson.dumps({"key": "pk_shop", "context": context, "events": events})
            async with session.post(url, data=body, headers=headers) as answer:
                assert answer.status == 204, await answer.text()
            ids += [str(each["id"]) for each in events]
    return ids
