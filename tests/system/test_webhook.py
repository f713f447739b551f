"""`gateway run` with a webhook: a receiver that believes what the scheme's library verifies."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from standardwebhooks import Webhook

from gateway.adapters.clock import SystemClock
from gateway.model.instant import format_ms
from tests.system.test_run import SITE, delivered, post, running

pytestmark = pytest.mark.system

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
CONFIGURATION = (
    SITE.replace('destinations = ["archive"]', 'destinations = ["archive", "hook"]')
    + """
[sites.other]
browser_keys = ["pk_other"]
origins = ["https://shop.example"]
destinations = ["archive"]
[destinations.hook]
kind = "webhook"
url = "{url}"
secrets = ["{secret}"]
allow_private_addresses = true
events = ["sale"]
batch_seconds = 0
"""
)


class Receiver:
    """Verifies, keeps, and fails the first time."""

    def __init__(self) -> None:
        self.url = ""
        self.ids: list[str] = []
        self.events: list[dict[str, Any]] = []

    async def take(self, request: web.Request) -> web.Response:
        events = Webhook(SECRET).verify(await request.read(), dict(request.headers))
        self.ids.append(request.headers["webhook-id"])
        if len(self.ids) == 1:
            return web.Response(status=503, headers={"Retry-After": "0"})
        self.events += events
        return web.Response()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    app = web.Application()
    app.router.add_post("/in", found.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    found.url = f"http://127.0.0.1:{runner.addresses[0][1]}/in"
    yield found
    await runner.cleanup()


def body(key: str, *events: dict[str, Any]) -> bytes:
    now = format_ms(SystemClock().now_ms())
    return orjson.dumps(
        {"key": key, "sentAt": now, "events": [{**each, "time": now} for each in events]}
    )


async def test_a_webhook_gets_the_types_and_sites_it_is_set_to_signed_and_again_until_it_has_them(
    tmp_path: Path, environment: dict[str, str], receiver: Receiver
) -> None:
    text = CONFIGURATION.format(url=receiver.url, secret=SECRET)
    sale = {"type": "sale", "amount": 4990, "currency": "sek", "customerId": "u-1"}
    async with running(tmp_path, text, environment) as gateway:
        url = await gateway.url("events")
        assert await post(url, body("pk_other", {**sale, "id": "not-its-site"})) == 204
        mine = body("pk_shop", {"type": "page", "id": "not-its-type"}, {**sale, "id": "its-own"})
        assert await post(url, mine) == 204
        await delivered(tmp_path, "not-its-site", "not-its-type", "its-own")
        async with asyncio.timeout(20):
            while not receiver.events:
                await asyncio.sleep(0.02)
        assert await gateway.stop() == 0
    (event,) = receiver.events
    assert (event["id"], event["site"], event["amount"]) == ("its-own", "shop", 4990)
    assert set(event) >= {"receivedAt", "consent", "type", "time"}
    first, second = receiver.ids
    assert first == second
    assert not any(SECRET in line for line in gateway.lines)
