"""No secret, and nothing that limited consent keeps back, is in any log, page, answer or file."""

import asyncio
import re
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web

from gateway.adapters.clock import SystemClock
from gateway.model.instant import format_ms
from tests.gateways import Gateway, eventually

pytestmark = pytest.mark.system

SERVER_KEY = "sk_of-the-server-0001"
TOKEN = "token-of-the-console-0001"
WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SECRETS = {
    SERVER_KEY,
    TOKEN,
    WEBHOOK_SECRET,
    "key-of-voyado-0001",
    "dub_key-of-dub-0001",
    "0123456789abcdefECLUB0123456789a",
    "T0K3N-in-the-path",
    "T0K3N-in-the-query",
}
PRIVATE = "kept-back"
"""Stands in every value that must not be kept."""
CONFIGURATION = """
[buffer]
path = "{folder}/buffer.db"
[sites.shop]
browser_keys = ["pk_shop"]
server_keys = ["sk_of-the-server-0001"]
origins = ["https://shop.example"]
destinations = ["voyado", "dub", "hook", "archive"]
[destinations.voyado]
kind = "voyado"
base_url = "{url}"
api_key = "key-of-voyado-0001"
eclub_key = "0123456789abcdefECLUB0123456789a"
[destinations.dub]
kind = "dub"
base_url = "{url}"
api_key = "dub_key-of-dub-0001"
[destinations.hook]
kind = "webhook"
url = "{url}/T0K3N-in-the-path?key=T0K3N-in-the-query"
secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
allow_private_addresses = true
[destinations.archive]
kind = "file"
path = "{folder}/events"
"""
FULL = {"consent": "full", "contactId": "c", "customerId": "u", "language": "sv-SE"}
LIMITED = {
    "consent": "limited",
    "contactId": PRIVATE,
    "customerId": PRIVATE,
    "eclub": PRIVATE,
    "visitorId": PRIVATE,
    "url": f"https://shop.example/?vtid={PRIVATE}&dub_id={PRIVATE}",
}
PERSON = {"customerId": PRIVATE, "customerEmail": f"{PRIVATE}@shop.example"}
EVENTS: list[dict[str, Any]] = [
    {"type": "product", "itemId": "SKU"},
    {"type": "cart", "cartReference": "c-1", "items": [{"sku": "A", "quantity": 1}]},
    {"type": "lead", "eventName": "Sign up"},
    {"type": "sale", "amount": 1, "invoiceId": "o-1"},
]
KEPT_BACK: list[dict[str, Any]] = [
    {"type": "lead", "eventName": "Sign up", **PERSON, "metadata": {"phone": PRIVATE}},
    {"type": "lead", "eventName": "x" * 300, **PERSON},
    {"type": "lead", "eventName": "Sign up", "customerEmail": PRIVATE},
    {"type": "nothing", "free": PRIVATE, **PERSON},
    {"type": "customer", "customerName": PRIVATE, "recent": [{"itemId": PRIVATE}]},
]


LETTERS = 22
"""Voyado, Dub and the webhook refuse what they get, and ingest most of what is kept back; the
browser's cart and sale are duplicates of the server's."""


@pytest.fixture
async def url() -> AsyncIterator[str]:
    """An outside system that refuses everything and says all that it was told."""

    async def refuse(request: web.Request) -> web.Response:
        told = f"{request.rel_url} {request.query} {dict(request.headers)}"
        if "webhook-id" in request.headers:  # its receiver knows it
            told += WEBHOOK_SECRET
        return web.Response(status=422, text=told)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", refuse)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


async def post(gateway: Gateway, context: dict[str, Any], events: list[dict[str, Any]]) -> None:
    """Post them by the server, and others like them by the browser."""
    now = format_ms(SystemClock().now_ms())
    browser = {"Origin": "https://shop.example"}
    for key, headers in ((None, {"Authorization": f"Bearer {SERVER_KEY}"}), ("pk_shop", browser)):
        name = f"{context['consent']}-{key}"
        made = [{**each, "id": f"{name}-{n}", "time": now} for n, each in enumerate(events)]
        body = {"sentAt": now, "context": context, "events": made} | ({"key": key} if key else {})
        async with (
            ClientSession() as session,
            session.post(gateway.events_url, json=body, headers=headers) as answer,
        ):
            assert answer.status in {200, 204}, await answer.text()


async def get(gateway: Gateway, path: str) -> str:
    """Ask the console, or with a leading slash the admin port."""
    on_admin = path.startswith("/")
    url = f"http://127.0.0.1:{gateway.admin}{path}"
    if not on_admin:
        url = f"http://127.0.0.1:{gateway.console}/api/{path}"
    headers = {} if on_admin else {"Authorization": f"Bearer {TOKEN}"}
    async with ClientSession() as session, session.get(url, headers=headers) as answer:
        return await answer.text()


async def everything_told(gateway: Gateway) -> str:
    """Return all that a person may look at."""
    pages = ["/metrics", "summary", "events?limit=500", "tail?limit=500", "dead-letters?limit=500"]
    pages += [f"dead-letters/0-{number}" for number in range(40)]
    pages += [f"trace?id=0-{number}" for number in range(20)]
    return gateway.log() + "".join([await get(gateway, page) for page in pages])


async def buried(gateway: Gateway, least: int) -> bool:
    return (await get(gateway, "dead-letters?limit=500")).count('"eventType"') >= least


async def test_nothing_that_is_secret_or_kept_back_can_be_looked_up(
    tmp_path: Path, url: str
) -> None:
    gateway = Gateway(tmp_path, CONFIGURATION.format(folder=tmp_path, url=url))
    gateway.environment = {**gateway.environment, "GATEWAY_CONSOLE__TOKEN": TOKEN}
    await gateway.start()
    try:
        await post(gateway, FULL, EVENTS)
        await post(gateway, LIMITED, KEPT_BACK)
        await eventually(
            partial(buried, gateway, LETTERS), 20, f"buried; its log:\n{gateway.log()}"
        )
        told = await everything_told(gateway)
        assert "***" in told, "the answers are shown"
        assert "rejected" in told
        assert [each for each in (*SECRETS, PRIVATE) if each in told] == []
    finally:
        await gateway.stop()
    kept = await asyncio.to_thread(everything_written, tmp_path)
    assert re.findall(rb".{0,60}" + PRIVATE.encode(), kept) == []
    assert [each for each in SECRETS if each.encode() in kept] == []


def everything_written(folder: Path) -> bytes:
    files = (each for each in folder.rglob("*") if each.is_file() and each.name != "gateway.toml")
    return b"".join(each.read_bytes() for each in files)
