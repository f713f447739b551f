import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from gateway.sandbox.voyado import VoyadoSandbox, create_voyado

Client = TestClient[web.Request, web.Application]
Connect = Callable[[web.Application], Awaitable[Client]]


@pytest.fixture
async def client(connect: Connect, static: Path) -> Client:
    return await connect(create_voyado(VoyadoSandbox(), static))


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/", "text/html"),
        ("/_sandbox/sandbox.css", "text/css"),
        ("/_sandbox/sandbox.js", "text/javascript"),
    ],
)
async def test_the_page_and_its_parts_are_served_with_a_strict_policy(
    client: Client, path: str, content_type: str
) -> None:
    answer = await client.get(path)
    assert (answer.status, answer.content_type) == (200, content_type)
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_nothing_else_of_the_folder_is_served(client: Client) -> None:
    for path in ("/_sandbox/index.html", "/_sandbox/..%2f..%2fpyproject.toml", "/sandbox.js"):
        assert (await client.get(path)).status == 404


def test_the_page_has_no_inline_script_or_style_and_its_script_writes_text_only(
    static: Path,
) -> None:
    page = (static / "sandbox" / "index.html").read_text()
    assert not re.search(r"<style|<script(?! src=)|\son\w+=|\sstyle=", page)
    script = (static / "sandbox" / "sandbox.js").read_text()
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)
