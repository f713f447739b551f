"""What the console's page believes of the API (static/console/api.d.ts) is what it answers."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp

from gateway.http.assets import data_folder
from gateway.http.console import ConsoleSettings
from tests.consoles import running, some_life
from tests.written import NOON, SetClock, event, take

INTERFACE = re.compile(r"interface (\w+)(?: extends (\w+))? \{\n(.*?)^\}", re.DOTALL | re.MULTILINE)


def declared() -> dict[str, set[str]]:
    """The fields of each interface, those that it extends included."""
    text = (data_folder("static") / "console" / "api.d.ts").read_text("utf-8")
    found: dict[str, set[str]] = {}
    for name, base, body in INTERFACE.findall(text):
        found[name] = found.get(base, set()) | set(re.findall(r"^  (\w+)\??:", body, re.MULTILINE))
    return found


TYPES = declared()


async def test_the_page_knows_every_field_of_the_answers_and_no_other(tmp_path: Path) -> None:
    def check(name: str, told: Mapping[str, Any]) -> None:
        assert set(told) == TYPES[name], name

    async with (
        running(tmp_path, ConsoleSettings(), SetClock()) as console,
        aiohttp.ClientSession(console.url) as session,
    ):

        async def get(path: str) -> Any:
            async with session.get(path) as answer:
                assert answer.status == 200
                return await answer.json()

        await some_life(console)
        await take(
            console.buffer,
            event("m-1", "mail_order", NOON, orderId="letter_1", customerId="u-9", status="ready"),
            event("s-1", "sale", NOON + 1, customerId="u-9", amount=1),
        )
        await console.caught_up()
        sale = await get("/api/trace?id=s-1")
        check("Trace", sale)
        check("Linked", sale["behind"][0])
        check("Reading", sale["reading"])
        (life,) = (await get("/api/trace?id=u-1"))["events"]
        check("Life", life)
        check("Step", life["steps"][0])
        check("Fate", life["outcomes"][0])
        assert set(life["receipt"]) | {"raw"} == TYPES["Receipt"]
        check("Searched", (await get("/api/trace?id=nothing"))["searched"])
        check("Event", (await get("/api/events"))["events"][0])
        check("Standing", (await get("/api/summary"))["destinations"][0])
        check("Letter", (await get("/api/dead-letters"))["deadLetters"][0])
        check("WholeLetter", await get("/api/dead-letters/0-0"))
