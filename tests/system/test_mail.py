"""Direct mail end to end: a stand-in of PostGrid, a gateway that is killed, a file."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web

from gateway.adapters.clock import SystemClock
from gateway.adapters.sqlite import SqliteBuffer
from gateway.adapters.sqlite.settings import SqliteSettings
from gateway.model.envelope import decode
from gateway.model.window import DedupSettings
from gateway.ports import Log
from gateway.sandbox.postgrid import POSTGRID, create_postgrid
from gateway.sandbox.postgrid_account import PostgridSandbox
from tests.gateways import ROOT, eventually, free_port
from tests.system.test_run import SITE, running

pytestmark = pytest.mark.system

SECRET = "webhook_secret_demo_0123456789"
KILLS = 4
ORDERS = 12


@asynccontextmanager
async def post_office() -> AsyncIterator[tuple[str, Any]]:
    app = create_postgrid(
        PostgridSandbox(retry_seconds=(0.2,) * 60, answer_seconds=2), ROOT / "static"
    )
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}", app[POSTGRID]
    await runner.cleanup()


def configuration(port: int, office: str) -> str:
    return (
        SITE.replace('[http]\nlisten = "127.0.0.1:0"', f'[http]\nlisten = "127.0.0.1:{port}"')
        + f"""
[sources.mail]
kind = "postgrid"
site = "shop"
base_url = "{office}"
api_key = "test_sk_sandbox"
webhook_secrets = ["{SECRET}"]
poll_seconds = 1
rate_per_second = 200
"""
    )


def delivered(folder: Path) -> dict[str, dict[str, Any]]:
    path = folder / "events" / "events.ndjson"
    lines = path.read_bytes().splitlines() if path.exists() else []
    return {event["id"]: event for event in map(orjson.loads, lines)}


async def counted(folder: Path) -> list[dict[str, Any]]:
    """Return what counts of the log: of equal dedup keys the first."""
    settings = SqliteSettings(kind="sqlite", path=folder / "buffer.db")
    buffer = SqliteBuffer(settings, SystemClock(), ("archive",), DedupSettings())
    await buffer.start()
    first: dict[str, dict[str, Any]] = {}
    for record in await buffer.read(Log.EVENTS, 0, 0, 100_000):
        envelope = decode(record.value)
        first.setdefault(envelope.dedup_key, envelope.public())
    await buffer.stop()
    return list(first.values())


class Campaign:
    """Mails postcards, each followed by a visit and by its next state."""

    def __init__(self, office: str, session: aiohttp.ClientSession) -> None:
        self._office = office
        self._session = session
        self._numbers = itertools.count()
        self._tracker = ""

    async def set_up(self, hook_url: str) -> None:
        """Make a webhook in each format, both to one address, and a tracker."""
        for payload_format in ("jwt", "json"):
            hook = {
                "url": hook_url,
                "enabledEvents": ["postcard.created", "postcard.updated", "tracker.visited"],
                "payloadFormat": payload_format,
                "secret": SECRET,
            }
            await self._call("/print-mail/v1/webhooks", hook)
        fields = {"redirectURLTemplate": "https://shop.example/", "urlExpireAfterDays": 30}
        self._tracker = (await self._call("/print-mail/v1/trackers", fields))["id"]

    async def mail(self, number: int) -> None:
        for _ in range(number):
            order = await self._call("/print-mail/v1/postcards", postcard(next(self._numbers)))
            visit = {"tracker": self._tracker, "order": order["id"]}
            await self._call("/_sandbox/visits", visit)
            await self._call(f"/print-mail/v1/postcards/{order['id']}/progressions")

    async def _call(self, path: str, body: object = None) -> Any:
        headers = {"x-api-key": "test_sk_sandbox"}
        url = f"{self._office}{path}"
        async with self._session.post(url, json=body, headers=headers) as answer:
            assert answer.status < 300, await answer.text()
            return await answer.json()


async def test_mail_counts_once_though_the_gateway_is_killed_again_and_again(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    """Orders, their states and visits, by webhooks in both formats and by polling at once."""
    port = free_port()
    async with post_office() as (office, account), aiohttp.ClientSession() as session:
        campaign = Campaign(office, session)
        await campaign.set_up(f"http://127.0.0.1:{port}/v1/hooks/postgrid/mail")
        text = configuration(port, office)
        for _ in range(KILLS):
            async with running(tmp_path, text, environment) as gateway:
                await gateway.url("events")
                mailing = asyncio.create_task(campaign.mail(ORDERS // KILLS))
                before = len(delivered(tmp_path))

                async def is_at_work(before: int = before) -> bool:
                    return len(delivered(tmp_path)) > before

                await eventually(is_at_work, 20, "something is delivered", every=0.005)
                gateway.process.kill()
                await mailing
        async with running(tmp_path, text, environment) as gateway:

            async def is_complete() -> bool:
                kinds = [each["type"] for each in delivered(tmp_path).values()]
                return kinds.count("mail_visit") == ORDERS and printing(tmp_path) == ORDERS

            await eventually(is_complete, 40, f"{ORDERS} visits and orders are delivered")
            await gateway.stop()
    check(await counted(tmp_path), account)


def check(events: list[dict[str, Any]], account: Any) -> None:
    visits = [each for each in events if each["type"] == "mail_visit"]
    assert sorted(each["id"] for each in visits) == sorted(account.visits)
    assert {each["customerId"] for each in visits} == {f"u-{each}" for each in range(ORDERS)}
    states = [(each["orderId"], each["status"]) for each in events if each["type"] == "mail_order"]
    assert len(states) == len(set(states))
    assert {each for each, status in states if status == "printing"} == set(account.orders)


def printing(folder: Path) -> int:
    return sum(each.get("status") == "printing" for each in delivered(folder).values())


def postcard(number: int) -> dict[str, Any]:
    return {
        "to": {"firstName": "Ann", "addressLine1": "20-20 BAY ST"},
        "size": "6x4",
        "frontHTML": "<b>Hi</b>",
        "backHTML": "<b>Hi</b>",
        "metadata": {"customerId": f"u-{number}", "mailReference": f"mail-{number}"},
    }
