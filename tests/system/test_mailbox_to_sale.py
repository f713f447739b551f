"""One customer from mailbox to sale, in a real browser: what PostGrid, Dub and the shop each know.

A postcard is ordered and printed; its tracker's link leads over a Dub short link to the shop, where
its recipient looks around, signs up and buys. A trace of the sale tells all of that.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession, web
from selenium.webdriver import Chrome
from standardwebhooks import Webhook

from gateway.sandbox.dub import DUB
from gateway.sandbox.storefront import contact_of, customer_of
from tests.gateways import ROOT, Gateway, eventually
from tests.system.test_mail import post_office
from tests.system.test_storefront import EMAIL, Shop, nothing, shop, visit

pytestmark = pytest.mark.system

MAIL_SECRET = "webhook_secret_demo_0123456789"
HOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
KEY = {"x-api-key": "test_sk_sandbox"}
REFERENCE = "autumn-0001"
RECIPIENT = {"contactId": contact_of(EMAIL), "customerId": customer_of(EMAIL)}
MORE = f"""
[destinations.hook]
kind = "webhook"
url = "{{hook}}"
secrets = ["{HOOK_SECRET}"]
allow_private_addresses = true
events = ["mail_visit", "mail_order"]
batch_seconds = 0
[sources.mail]
kind = "postgrid"
site = "shop"
base_url = "{{office}}"
api_key = "{KEY["x-api-key"]}"
webhook_secrets = ["{MAIL_SECRET}"]
poll_seconds = 0
"""
"""Nothing is polled: what arrives was brought by PostGrid's webhooks."""


@asynccontextmanager
async def receiver() -> AsyncIterator[tuple[str, list[dict[str, Any]]]]:
    """Where the gateway's webhook destination posts to, and what it got."""
    got: list[dict[str, Any]] = []

    async def take(request: web.Request) -> web.Response:
        got.extend(Webhook(HOOK_SECRET).verify(await request.read(), dict(request.headers)))
        return web.Response()

    app = web.Application()
    app.router.add_post("/in", take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/in", got
    await runner.cleanup()


async def mail_a_postcard(office: str, there: Shop) -> tuple[str, str]:
    """Let PostGrid tell the gateway, print one postcard, and return its id and its link."""

    async def call(path: str, body: object = None) -> dict[str, Any]:
        async with session.post(f"{office}{path}", json=body, headers=KEY) as answer:
            assert answer.status < 300, await answer.text()
            found: dict[str, Any] = await answer.json()
            return found

    async with ClientSession() as session:
        await call(
            "/print-mail/v1/webhooks",
            {
                "url": f"http://127.0.0.1:{there.gateway.public}/v1/hooks/postgrid/mail",
                "enabledEvents": ["postcard.created", "postcard.updated", "tracker.visited"],
                "secret": MAIL_SECRET,
            },
        )
        landing = f"{there.there.dub_url}/go/summer?vtid={{{{contactId}}}}&mail_ref={{{{piece}}}}"
        tracker = await call(
            "/print-mail/v1/trackers", {"redirectURLTemplate": landing, "urlExpireAfterDays": 90}
        )
        order = await call(
            "/print-mail/v1/postcards",
            {
                "to": {"firstName": "Anna", "addressLine1": "20-20 BAY ST"},
                "size": "6x4",
                "frontHTML": "<b>Autumn</b>",
                "backHTML": f"<img src='{{{{{tracker['id']}.qrcode}}}}'>",
                "mergeVariables": {"contactId": RECIPIENT["contactId"], "piece": REFERENCE},
                "metadata": {**RECIPIENT, "mailReference": REFERENCE},
            },
        )
        await call(f"/print-mail/v1/postcards/{order['id']}/progressions")
        link = await call("/_sandbox/links", {"tracker": tracker["id"], "order": order["id"]})
        return order["id"], f"{office}{link['path']}"


async def shown(gateway: Gateway, command: str, *options: str) -> str:
    """Return what a command prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", command, "--config", str(gateway.path), *options,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


async def test_a_sale_is_traced_back_to_the_postcard_in_the_mailbox(
    browser: Chrome, tmp_path: Path
) -> None:
    async with post_office() as (office, account), receiver() as (hook, told):

        def adapted(text: str) -> str:
            more = MORE.format(office=office, hook=hook)
            return text.replace('"archive"]', '"archive", "hook"]') + more

        async with shop(tmp_path, adapted=adapted) as there:
            postcard, link = await mail_a_postcard(office, there)

            async def hears_of_the_printing() -> bool:
                return {each["status"] for each in told} == {"ready", "printing"}

            await eventually(hears_of_the_printing, 10, "both states of the order")
            skus = await visit(browser, there, nothing, link)
            (visited,) = account.visits.values()
            assert visited["orderID"] == postcard

            async def is_sold() -> bool:
                return bool(list(there.there.dub[DUB].sales))

            await eventually(is_sold, 20, "the sale")
            (sale,) = there.there.dub[DUB].sales
            assert sale.invoice_id is not None
            await there.gateway.until_drained(("voyado", "dub", "archive", "hook"), 20)
            (click,) = there.there.dub[DUB].clicks
            check_behind(
                orjson.loads(await shown(there.gateway, "trace", sale.invoice_id, "--json")), skus
            )
            text = await shown(there.gateway, "trace", sale.invoice_id)
            assert "behind the sale" in text
            assert f"clickId        {click}" in text
            assert f"{postcard} printing" in text
            tail = await shown(there.gateway, "tail", "--no-follow", "--type", "mail_visit")
            assert f"mail_visit {visited['id']}  hook delivered" in tail
            assert await there.gateway.stop() == 0
    check_told(told, postcard, visited["id"])
    filed = [
        orjson.loads(line)
        for line in (tmp_path / "archive" / "events.ndjson").read_bytes().splitlines()
    ]
    check_told(
        [each for each in filed if each["type"].startswith("mail_")], postcard, visited["id"]
    )
    check_click([each for each in filed if each["type"] == "page"], there)


def check_behind(told: dict[str, Any], skus: list[str]) -> None:
    """From the mailbox to the sale, each by an id that it shares with another."""
    behind = told["behind"]
    assert not told["behindCut"]
    kinds = Counter(each["type"] for each in behind)
    assert (kinds["mail_order"], kinds["mail_visit"], kinds["lead"]) == (2, 1, 1)
    viewed = {each["label"] for each in behind if each["type"] == "product"}
    assert all(any(sku in label for label in viewed) for sku in skus)
    assert kinds["cart"] >= len(skus)
    first = [each["type"] for each in behind]
    assert first[:2] == ["mail_order", "mail_order"]
    assert first.index("mail_visit") < first.index("page") < first.index("lead")
    landing = behind[first.index("page")]
    assert {"mailReference", "clickId"} <= set(landing["linkedBy"])


def check_told(told: list[dict[str, Any]], postcard: str, visit_id: str) -> None:
    """What destinations get of the mail piece: its ids, and no address."""
    orders = [each for each in told if each["type"] == "mail_order"]
    (visited,) = [each for each in told if each["type"] == "mail_visit"]
    assert {each["status"] for each in orders} == {"ready", "printing"}
    assert visited["id"] == visit_id
    assert len(orders) == 2
    for each in told:
        assert (each["orderId"], each["mailReference"]) == (postcard, REFERENCE)
        assert {name: each[name] for name in RECIPIENT} == RECIPIENT
        assert b"BAY ST" not in orjson.dumps(each)


def check_click(pages: list[dict[str, Any]], there: Shop) -> None:
    """The landing page has the click that Dub made, and all three ids go on with what follows."""
    (click,) = there.there.dub[DUB].clicks
    for page in pages:
        assert page["clickId"] == click
        assert page["mailReference"] == REFERENCE
        assert page["contactId"] == RECIPIENT["contactId"]
        assert REFERENCE not in page["url"]
