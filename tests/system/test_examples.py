"""The examples of server-side sales in static/README.md, run as they stand there."""

import asyncio
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.sandbox.dub import DUB
from gateway.sandbox.voyado import VOYADO
from tests.gateways import ROOT, Gateway, config, eventually, sandboxes

pytestmark = pytest.mark.system

INTERPRETERS = {"sh": ("sh", "-eu"), "python": (sys.executable, "-")}
SERVER_KEY = "sk_shop_0123456789abcdef"


def examples() -> dict[str, str]:
    """The blocks that the page says are run, by language."""
    page = (ROOT / "static" / "README.md").read_text("utf-8")
    marked = r"<!-- run by tests/system/test_examples\.py -->\n```(\w+)\n(.*?)```"
    return dict(re.findall(marked, page, re.DOTALL))


async def run(language: str, environment: dict[str, str]) -> str:
    """Run an example and return what it prints."""
    process = await asyncio.create_subprocess_exec(
        *INTERPRETERS[language], env=environment, stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate(examples()[language].encode())
    assert process.returncode == 0, err.decode() + out.decode()
    return out.decode()


async def test_a_servers_sale_reaches_dub_by_the_browsers_click_and_empties_the_cart(
    tmp_path: Path, environment: dict[str, str], needs: Callable[[str], str]
) -> None:
    needs("curl")
    assert set(examples()) == set(INTERPRETERS)
    async with sandboxes() as there:
        dub, voyado = there.dub[DUB], there.voyado[VOYADO]
        gateway = Gateway(tmp_path, config(tmp_path, there))
        await gateway.start()
        dub.set_link("summer", "https://shop.example/")
        ids = {"visitorId": "v-1", "clickId": dub.click("summer").id}
        told = environment | {
            "GATEWAY": f"http://127.0.0.1:{gateway.public}",
            "GATEWAY_SERVER_KEY": SERVER_KEY,
            "IDS": json.dumps(ids),
        }
        try:
            for language in INTERPRETERS:
                assert "accepted" in await run(language, told)
                await run(language, told)  # again, the same: it counts once
            refused = await run("python", told | {"IDS": '{"clickId": 1}'})
            assert "rejected" in refused
            assert "clickId" in refused

            async def arrived() -> bool:
                return len(list(dub.sales)) == len(INTERPRETERS)

            await eventually(arrived, 30, "the sales")
            await gateway.until_drained(("voyado", "dub", "archive"), 30)
        finally:
            await gateway.abandon()
        sales = {each.invoice_id: each for each in dub.sales}
        assert {number: each.sent_amount for number, each in sales.items()} == {
            "o-77": 4990,
            "o-78": 9900,
        }
        assert {(each.external_id, each.click_id) for each in sales.values()} == {
            ("u-1", ids["clickId"])
        }
        assert {cart.cart.items for cart in voyado.carts.values()} == {()}
        assert set(voyado.carts) == {"c-1", "c-2"}
