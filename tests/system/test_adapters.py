"""Shops that talk as they did before, in a real browser: only the tags are ours.

Each page makes the calls of another collector, some before the adapter has loaded and some after;
what counts is what the destinations hold at the end.
"""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from selenium.webdriver import Chrome

from gateway.sandbox.dub import DUB
from gateway.sandbox.voyado import VOYADO
from tests.gateways import ROOT, Gateway, Sandboxes, config, eventually, free_port, sandboxes

pytestmark = pytest.mark.system

CONTACT = "0f0e0d0c-0b0a-0908-0706-050403020100"
DESTINATIONS = ("voyado", "dub", "archive")


@dataclass
class Shop:
    """Pages with an adapter's tags, a gateway, and what stands behind it."""

    url: str
    folder: Path
    gateway: Gateway
    there: Sandboxes
    browser: Chrome

    async def visit(self, *addresses: str) -> None:
        """Open pages, one after the other; each is loaded with all its scripts before the next."""
        for address in addresses:
            await asyncio.to_thread(self.browser.get, address)

    async def does(self, script: str) -> None:
        """Do what a page does when something is clicked."""
        await asyncio.to_thread(self.browser.execute_script, script)

    def complaints(self) -> list[str]:
        """What the browser's console holds that is worse than a remark."""
        log = self.browser.get_log("browser")  # type: ignore[no-untyped-call]  # selenium's
        return [each["message"] for each in log if each["level"] == "SEVERE"]

    async def archived(self, kind: str, count: int) -> list[dict[str, Any]]:
        """The events of a type that reached the file, when there are so many."""
        path = self.folder / "archive" / "events.ndjson"

        def read() -> list[dict[str, Any]]:
            lines = path.read_bytes().splitlines() if path.exists() else []
            return [each for each in map(orjson.loads, lines) if each["type"] == kind]

        async def enough() -> bool:
            return len(read()) >= count

        await eventually(enough, 30, f"{count} of {kind}; the log:\n{self.gateway.log()[-3000:]}")
        await self.gateway.until_drained(DESTINATIONS, 30)
        found = read()
        assert len(found) == count, found
        return found


@asynccontextmanager
async def shop(
    folder: Path, browser: Chrome, adapter: str, pages: dict[str, str]
) -> AsyncIterator[Shop]:
    """Serve pages, each with the tags that `gateway snippet` prints and a script of its own."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with sandboxes() as there:
        gateway = Gateway(folder, config(folder, there, origin=url))
        await gateway.start()
        tags = await snippet(gateway, adapter)

        async def page(request: web.Request) -> web.Response:
            script = pages[request.path]
            text = (
                '<!doctype html><html lang="sv-SE"><head><link rel="icon" href="data:,">'
                f"<script>{script}</script>{tags}"
                "<script>gateway('consent', window.choice || 'full')</script>"
                "</head><body></body></html>"
            )
            return web.Response(text=text, content_type="text/html")

        app = web.Application()
        app.add_routes([web.get(path, page) for path in pages])
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        browser.get_log("browser")  # type: ignore[no-untyped-call]  # forgets earlier tests
        try:
            yield Shop(url, folder, gateway, there, browser)
        finally:
            await gateway.abandon()
            await runner.cleanup()


async def snippet(gateway: Gateway, adapter: str) -> str:
    """The tags, as the command prints them."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "snippet", "--config", str(gateway.path), "--site", "shop",
        "--gateway", f"http://127.0.0.1:{gateway.public}", "--adapter", adapter,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


def pushed(event: str, **ecommerce: Any) -> str:
    return f"dataLayer.push({orjson.dumps({'event': event, 'ecommerce': ecommerce}).decode()});"


async def test_a_data_layer_becomes_views_one_cart_and_a_sale(
    browser: Chrome, tmp_path: Path
) -> None:
    shirt = {"item_id": "S-1", "item_category": "Clothes", "item_category2": "Shirts"}
    hat = {"item_id": "H-1", "quantity": 2}
    pages = {
        "/shirt": f"dataLayer = []; {pushed('view_item', items=[shirt])}",
        "/hat": f"dataLayer = []; {pushed('add_to_cart', items=[hat])}",
        "/thanks": "dataLayer = [{user_id: 'u-1'}];"
        + pushed("purchase", transaction_id="o-77", value=1234.35, currency="SEK", items=[hat]),
    }
    async with shop(tmp_path, browser, "datalayer", pages) as there:
        dub = there.there.dub[DUB]
        dub.set_link("summer", f"{there.url}/shirt?vtid={CONTACT}")
        await there.visit(f"{there.there.dub_url}/go/summer")
        # Each state of the cart is waited for: a newer one would supersede it.
        await there.does(pushed("add_to_cart", items=[shirt]))
        await there.archived("cart", 1)
        await there.visit(f"{there.url}/hat")
        await there.archived("cart", 2)
        await there.does(pushed("remove_from_cart", items=[{**hat, "quantity": 1}]))
        await there.archived("cart", 3)
        await there.visit(f"{there.url}/thanks")
        carts = await there.archived("cart", 4)
        assert [[(i["sku"], i["quantity"]) for i in each["items"]] for each in carts] == [
            [("S-1", 1)],
            [("S-1", 1), ("H-1", 2)],
            [("S-1", 1), ("H-1", 1)],
            [],
        ]
        [reference] = {each["cartReference"] for each in carts}
        [sale] = await there.archived("sale", 1)
        assert (sale["cartReference"], sale["invoiceId"]) == (reference, "o-77")
        [sold] = dub.sales
        assert (sold.external_id, sold.sent_amount, sold.sent_currency) == ("u-1", 123435, "sek")
        voyado = there.there.voyado[VOYADO]
        [view] = voyado.views
        assert (view.view.item_id, view.view.category) == ("S-1", "Clothes > Shirts")
        [held] = voyado.carts.values()
        assert (held.cart.contact_id, held.cart.items) == (CONTACT, ())
        assert there.complaints() == []


async def test_with_limited_consent_a_data_layers_cart_lives_as_long_as_its_page(
    browser: Chrome, tmp_path: Path
) -> None:
    hat = {"item_id": "H-1"}
    script = f"choice = 'limited'; dataLayer = []; {pushed('add_to_cart', items=[hat])}"
    async with shop(tmp_path, browser, "datalayer", {"/hat": script}) as there:
        await there.visit(f"{there.url}/hat")
        await there.archived("cart", 1)
        await there.does(pushed("add_to_cart", items=[hat]))
        await there.archived("cart", 2)
        await there.visit(f"{there.url}/hat")
        carts = await there.archived("cart", 3)
        assert [each["items"][0]["quantity"] for each in carts] == [1, 2, 1]
        first, second, third = [each["cartReference"] for each in carts]
        assert first == second != third
        assert not any("visitorId" in each or "sessionId" in each for each in carts)
        assert await asyncio.to_thread(browser.execute_script, "return localStorage.length") == 0
        assert there.complaints() == []


async def test_voyados_calls_become_its_views_and_carts(browser: Chrome, tmp_path: Path) -> None:
    loader = (
        "window.VoyadoAnalyticsObject='va';"
        "window.va=window.va||function(){(va.q=va.q||[]).push(arguments)};va('setTenant','shop');"
    )
    view = {"categoryName": "Shoes > Running", "itemId": "S-1", "locale": "sv-SE"}
    cart = {"cartRef": "c-1", "locale": "sv-SE", "items": [{"itemId": "S-1", "quantity": 2}]}
    pages = {
        "/shoe": f"{loader} va('productview', {orjson.dumps(view).decode()});",
        "/account": f"{loader} va('setContactId', '{CONTACT}');",
    }
    async with shop(tmp_path, browser, "voyado", pages) as there:
        voyado = there.there.voyado[VOYADO]
        await there.visit(f"{there.url}/shoe")
        await there.does(f"va('cart', {orjson.dumps(cart).decode()})")
        await there.visit(f"{there.url}/account")

        async def filled() -> bool:
            return bool(voyado.carts)

        await eventually(filled, 30, "the cart, with its contact")
        await there.does("va('emptyCart', {cartRef: 'c-1'})")

        async def emptied() -> bool:
            return not any(each.cart.items for each in voyado.carts.values())

        await eventually(emptied, 30, "the cart emptied")
        await there.gateway.until_drained(DESTINATIONS, 30)
        [seen] = voyado.views
        assert (seen.view.item_id, seen.view.contact_id) == ("S-1", CONTACT)
        assert (seen.view.category, seen.view.language) == ("Shoes > Running", "sv-SE")
        [(first, *_)] = [[e.cart for e in voyado.updates if e.cart.items]]
        assert [(item.sku, item.quantity) for item in first.items] == [("S-1", 2)]
        assert (first.contact_id, first.language) == (CONTACT, "sv-SE")
        assert set(voyado.carts) == {"c-1"}
        assert there.complaints() == []


async def test_dubs_calls_become_its_lead_and_sale(browser: Chrome, tmp_path: Path) -> None:
    lead = {"eventName": "Sign up", "customerExternalId": "u-1", "customerEmail": "a@example.com"}
    sale = {"customerExternalId": "u-1", "amount": 4990, "currency": "sek", "invoiceId": "o-77"}
    pages = {"/": "", "/welcome": ""}
    async with shop(tmp_path, browser, "dub", pages) as there:
        dub = there.there.dub[DUB]
        dub.set_link("summer", f"{there.url}/")
        await there.visit(f"{there.there.dub_url}/go/summer", f"{there.url}/welcome")
        await there.does(f"dubAnalytics.trackLead({orjson.dumps(lead).decode()})")
        await there.does(f"dubAnalytics('trackSale', {orjson.dumps(sale).decode()})")

        async def arrived() -> bool:
            return bool(list(dub.sales))

        await eventually(arrived, 30, "the sale")
        await there.gateway.until_drained(DESTINATIONS, 30)
        [led] = dub.leads
        assert (led.external_id, led.event_name) == ("u-1", "Sign up")
        [sold] = dub.sales
        assert (sold.external_id, sold.sent_amount) == ("u-1", 4990)
        assert sold.click_id == led.click_id
        assert there.complaints() == []
