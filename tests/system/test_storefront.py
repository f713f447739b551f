"""The main job in a real browser: the demo storefront, a gateway process, the stand-ins.

A visitor comes by a short link, looks at two products, fills the basket, signs up (by which the
contact becomes known) and checks out.
"""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from gateway.adapters.clock import SystemClock
from gateway.adapters.sqlite import SqliteBuffer
from gateway.adapters.sqlite.settings import SqliteSettings
from gateway.model import journal
from gateway.model.journal import Answer, Settled
from gateway.model.outcome import Reason
from gateway.model.window import DedupSettings
from gateway.ports import Log
from gateway.sandbox.dub import DUB
from gateway.sandbox.storefront import StorefrontSandbox, contact_of, create_storefront, customer_of
from gateway.sandbox.voyado import VOYADO
from tests.brokers import Broker, on_broker
from tests.gateways import (
    ROOT,
    BufferSettings,
    Gateway,
    Sandboxes,
    config,
    eventually,
    free_port,
    sandboxes,
)

pytestmark = [pytest.mark.system, pytest.mark.timeout(180)]

EMAIL = "anna@example.com"
SKUS = 2


@dataclass
class Shop:
    """The storefront, its gateway, and what stands behind it."""

    url: str
    gateway: Gateway
    there: Sandboxes


@asynccontextmanager
async def shop(
    folder: Path,
    buffer: BufferSettings | None = None,
    commands: tuple[str, ...] = ("run",),
    adapted: Callable[[str], str] = str,
) -> AsyncIterator[Shop]:
    """Start everything; on the embedded log by default. `adapted` may change the configuration."""
    async with sandboxes() as there:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        text = adapted(config(folder, there, origin=url, buffer=buffer))
        gateway = Gateway(folder, text, commands)
        await gateway.start()
        runner = web.AppRunner(
            create_storefront(StorefrontSandbox(snippet=await snippet(gateway)), ROOT / "static")
        )
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        there.dub[DUB].set_link("summer", f"{url}/?utm_source=letter")
        try:
            yield Shop(url, gateway, there)
        finally:
            await gateway.abandon()
            await runner.cleanup()


async def snippet(gateway: Gateway) -> str:
    """The public snippet, as the command prints it."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "snippet", "--config", str(gateway.path), "--site", "shop",
        "--gateway", f"http://127.0.0.1:{gateway.public}", cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


class Visitor:
    """Uses the shop as a person would; each step ends when the page it leads to is drawn."""

    def __init__(self, browser: Chrome) -> None:
        self._browser = browser

    async def opens(self, url: str) -> None:
        await asyncio.to_thread(self._browser.get, url)
        await self._ready()

    async def clicks(self, name: str) -> None:
        """Click; the page may be another one at once."""
        await asyncio.to_thread(self._find(name).click)
        await self._ready()

    async def types(self, name: str, text: str) -> None:
        await asyncio.to_thread(self._find(name).send_keys, text)

    def skus(self) -> list[str]:
        found = self._browser.find_elements(By.CSS_SELECTOR, "[data-test^=product-]")
        return [each.get_attribute("data-test")[8:] for each in found]  # type: ignore[index]

    def _find(self, name: str) -> Any:
        return self._browser.find_element(By.CSS_SELECTOR, f"[data-test='{name}']")

    async def _ready(self) -> None:
        def look() -> None:
            WebDriverWait(self._browser, 15).until(
                lambda driver: driver.find_elements(By.CSS_SELECTOR, "body[data-ready]")
            )

        await asyncio.to_thread(look)


Break = Callable[[str], Awaitable[None]]


async def visit(browser: Chrome, shop: Shop, at: Break, link: str = "") -> list[str]:
    """Click through the shop; `at` is told where we are, and may break something there.

    The visitor comes by `link`, or by the short link itself.
    """
    visitor = Visitor(browser)
    await visitor.opens(link or f"{shop.there.dub_url}/go/summer")
    skus = visitor.skus()[:SKUS]
    for sku in skus:
        await visitor.clicks(f"product-{sku}")
        await at(f"viewed {sku}")
        await visitor.clicks("add-to-basket")
        await at(f"added {sku}")
        await visitor.opens(shop.url)
    await visitor.clicks("sign-up-link")
    await visitor.types("name", "Anna")
    await visitor.types("email", EMAIL)
    await visitor.clicks("sign-up-submit")
    await at("signed up")
    await eventually(lambda: _cart_has(shop, skus), 60, "the latest cart, with its contact")
    await visitor.clicks("basket-link")
    await visitor.clicks("to-check-out")
    await visitor.clicks("pay")
    await at("paid")
    return skus


async def _cart_has(shop: Shop, skus: list[str]) -> bool:
    updates = list(shop.there.voyado[VOYADO].updates)
    return bool(updates) and [item.sku for item in updates[-1].cart.items] == skus


async def _sold(shop: Shop) -> bool:
    carts = shop.there.voyado[VOYADO].carts.values()
    return bool(list(shop.there.dub[DUB].sales)) and all(not each.cart.items for each in carts)


def check(shop: Shop, skus: list[str], unknown: int = 0) -> None:
    """What the stand-ins hold: exactly this."""
    voyado, dub = shop.there.voyado[VOYADO], shop.there.dub[DUB]
    contact = contact_of(EMAIL)
    views = Counter((each.view.item_id, each.view.contact_id) for each in voyado.views)
    assert set(views) <= {(sku, contact) for sku in skus}
    assert max(views.values(), default=1) == 1
    assert len(skus) - unknown <= len(views)  # what was in doubt may have arrived
    [held] = voyado.carts.values()
    assert held.cart.items == ()
    filled = [each.cart for each in voyado.updates if each.cart.items]
    assert [item.sku for item in filled[-1].items] == skus
    assert {cart.contact_id for cart in filled} == {contact}
    assert {cart.language for cart in filled} == {"sv-SE"}
    assert not any(each.went_back for each in voyado.updates)
    [lead] = dub.leads
    assert (lead.external_id, lead.event_name) == (customer_of(EMAIL), "Sign up")
    [sale] = dub.sales
    assert sale.external_id == customer_of(EMAIL)
    assert sale.click_id == lead.click_id


async def unknown_views(folder: Path) -> int:
    """How many views the outcome log says were in a request in flight at the kill."""
    path = folder / "buffer.db"
    buffer = SqliteBuffer(SqliteSettings(path=path), SystemClock(), (), DedupSettings())
    await buffer.start()
    try:
        entries = [
            journal.decode(record.value) for record in await buffer.read(Log.OUTCOMES, 0, 0, 10_000)
        ]
    finally:
        await buffer.stop()
    settled: list[Settled] = [
        each for entry in entries if isinstance(entry, Answer) for each in entry.settled
    ]
    return sum(each.reason is Reason.UNKNOWN for each in settled)


async def nothing(_: str) -> None:
    """Break nothing."""


async def test_a_visit_ends_in_exactly_its_views_cart_lead_and_sale(
    browser: Chrome, tmp_path: Path
) -> None:
    async with shop(tmp_path) as there:
        await _whole_visit(browser, there)


async def test_a_visit_on_kafka_with_a_process_for_each_role(
    browser: Chrome, tmp_path: Path, broker: Broker
) -> None:
    roles = ("ingest", "deliver", "console")
    async with shop(tmp_path, on_broker(broker, partitions=3), roles) as there:
        await _whole_visit(browser, there)


async def _whole_visit(browser: Chrome, there: Shop) -> None:
    skus = await visit(browser, there, nothing)
    await eventually(lambda: _sold(there), 60, "the sale, and its cart emptied")
    await there.gateway.until_drained(("voyado", "dub", "archive"), 60)
    check(there, skus)
    assert await there.gateway.stop() == 0


@pytest.mark.parametrize("moment", ["viewed", "added", "signed up", "paid"])
async def test_the_same_with_the_gateway_killed_in_the_middle(
    browser: Chrome, tmp_path: Path, moment: str
) -> None:
    async with shop(tmp_path) as there:

        async def kill(where: str) -> None:
            if where.startswith(moment) and not there.gateway.kills:
                await there.gateway.kill()
                await there.gateway.start()

        skus = await visit(browser, there, kill)
        assert there.gateway.kills == 1
        await eventually(lambda: _sold(there), 60, "the sale, and its cart emptied")
        await there.gateway.until_drained(("voyado", "dub", "archive"), 60)
        assert await there.gateway.stop() == 0
        check(there, skus, await unknown_views(tmp_path))


async def test_what_is_clicked_while_the_gateway_is_away_arrives_when_it_is_back(
    browser: Chrome, tmp_path: Path
) -> None:
    async with shop(tmp_path) as there:

        async def away(where: str) -> None:
            if where.startswith("viewed") and not there.gateway.kills:
                await there.gateway.kill()
            elif where.startswith("added") and there.gateway.kills == 1:
                there.gateway.kills += 1
                await there.gateway.start()

        skus = await visit(browser, there, away)
        await eventually(lambda: _sold(there), 60, "the sale, and its cart emptied")
        await there.gateway.until_drained(("voyado", "dub", "archive"), 60)
        assert await there.gateway.stop() == 0
        check(there, skus, await unknown_views(tmp_path))
