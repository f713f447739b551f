"""The README's campaign, followed as it stands there beside `gateway demo`, in an empty folder."""

import asyncio
import re
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from gateway.wiring.sandbox import PORTS
from tests.gateways import ROOT, eventually
from tests.system.test_demo import started
from tests.system.test_storefront import EMAIL, Visitor

pytestmark = pytest.mark.system

BLOCK = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
COMMAND = f'gateway() {{ "{sys.executable}" -m gateway "$@"; }}\n'
"""In a checkout the command is this; the README says so above."""


def blocks() -> list[tuple[str, str]]:
    """Every block of the campaign that is in a language, and which."""
    page = (ROOT / "README.md").read_text("utf-8")
    campaign = page.partition("## Direct mail: one campaign")[2].partition("\n## ")[0]
    return [
        (language, re.sub(f"^{indent}", "", text, flags=re.MULTILINE))
        for indent, language, text in BLOCK.findall(campaign)
    ]


class Reader:
    """Copies what stands there, and puts in the ids that were printed."""

    def __init__(self, folder: Path, environment: dict[str, str], at: dict[str, str]) -> None:
        self.ids: dict[str, str] = {}
        """By the words in the README that stand for them."""
        self._folder = folder
        self._environment = environment | {
            "PYTHONPATH": str(ROOT),
            "GATEWAY_CONSOLE__LISTEN": at["console"].removeprefix("http://"),
        }
        self._at = at

    def read(self, text: str) -> str:
        """What the README says, with the addresses of the demo of this test."""
        for name, port in PORTS.items():
            text = text.replace(f"http://127.0.0.1:{port}", self._at[name])
        for word, thing_id in self.ids.items():
            text = text.replace(word, thing_id)
        return text

    async def runs(self, text: str) -> str:
        """Run commands; return what they print, and keep the ids in it."""
        process = await asyncio.create_subprocess_exec(
            "sh", "-eu", cwd=self._folder, env=self._environment, stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await process.communicate((COMMAND + text).encode())
        assert process.returncode == 0, err.decode() + out.decode()
        assert b"warning" not in err, err.decode()
        for word in ("webhook", "tracker", "postcard"):
            if found := re.search(rf"^id +({word}_\w+)$", out.decode(), re.MULTILINE):
                self.ids[f"{word}_…"] = found[1]
        return out.decode()


async def test_the_campaign_of_the_readme_goes_from_the_template_to_a_traced_sale(
    browser: Chrome, tmp_path: Path, environment: dict[str, str]
) -> None:
    (kind, configuration), webhook, tracker, order, mail_trace, sale_trace = blocks()
    assert kind == "toml"
    assert {language for language, _ in (webhook, tracker, order)} == {"sh"}
    async with started("demo", environment) as (_, at):
        reader = Reader(tmp_path, environment, at)
        (tmp_path / "mail.toml").write_text(reader.read(configuration))
        assert "ok: mail.toml" in await reader.runs("gateway check --config mail.toml")
        assert "webhook_" in await reader.runs(reader.read(webhook[1]))
        assert "{{tracker_" in await reader.runs(reader.read(tracker[1]))
        shown = [await reader.runs(reader.read(command)) for command in steps(order[1])]
        assert "ready > [printing] >" in shown[-1]
        mailed = reader.read(mail_trace[1])
        await eventually(
            says(reader, mailed, "ready", "printing", "archive  DELIVERED"), 20, "the piece"
        )
        invoice = await buys(browser, at, reader.ids["postcard_…"])
        reader.ids["o-…"] = invoice
        wanted = ("mailReference", "autumn-1", "clickId", "printing", "mail_visit", "lead")
        sold = reader.read(sale_trace[1])
        await eventually(says(reader, sold, "behind the sale", *wanted), 20, "the sale")
        behind = (await reader.runs(sold)).partition("behind the sale")[2]
        types = re.findall(r"Z  (\w+)  ", behind)
        assert types[:2] == ["mail_order", "mail_order"]
        assert {"mail_visit", "page", "product", "cart", "lead"} <= set(types)
        assert re.search(r"Z  page  .* by .*mailReference.*clickId", behind)
        hook = "gateway postgrid --config mail.toml webhooks invocations --json webhook_…"
        told = [orjson.loads(line) for line in (await reader.runs(reader.read(hook))).splitlines()]
        assert {each["statusCode"] for each in told} == {200}
        assert {each["type"] for each in told} == {
            "postcard.created",
            "postcard.updated",
            "tracker.visited",
        }


def steps(text: str) -> list[str]:
    """The commands of a block: an id that one prints stands in the next."""
    return re.findall(r"^gateway (?:.*\\\n)*.*$", text, re.MULTILINE)


def says(reader: Reader, command: str, *words: str) -> Callable[[], Awaitable[bool]]:
    async def said() -> bool:
        text = await reader.runs(command)
        return all(word in text for word in words)

    return said


async def buys(browser: Chrome, at: dict[str, str], postcard: str) -> str:
    """Follow the piece's link on the stand-in's page, and buy; return the invoice."""

    def looks() -> str:
        browser.get(f"{at['postgrid']}/")
        link = WebDriverWait(browser, 10).until(
            lambda driver: driver.find_element(
                By.XPATH, f"//*[@id='held-links']//tr[td[@title='{postcard}']]//a"
            )
        )
        return str(link.get_attribute("href"))

    visitor = Visitor(browser)
    await visitor.opens(await asyncio.to_thread(looks))
    await visitor.clicks(f"product-{visitor.skus()[0]}")
    await visitor.clicks("add-to-basket")
    await visitor.clicks("sign-up-link")
    await visitor.types("name", "Ann")
    await visitor.types("email", EMAIL)
    await visitor.clicks("sign-up-submit")
    await asyncio.to_thread(
        WebDriverWait(browser, 10).until,
        lambda driver: driver.find_elements(By.CSS_SELECTOR, "[data-test='pay']"),
    )
    await visitor.clicks("pay")
    found = re.search(r"order=([\w-]+)", browser.current_url)
    assert found
    return found[1]
