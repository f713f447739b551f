"""`gateway demo` and `gateway sandbox`: everything on this machine, printed where it is."""

import asyncio
import re
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession

from gateway.adapters.clock import SystemClock
from gateway.model.instant import format_ms

pytestmark = pytest.mark.system


@asynccontextmanager
async def started(
    command: str, environment: dict[str, str], *options: str
) -> AsyncIterator[tuple[Process, dict[str, str]]]:
    """Start a command on free ports; yield it and its addresses by name."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", command, "--port-base", "0", *options,
        stdout=PIPE, stderr=DEVNULL, env=environment,
    )  # fmt: skip
    assert process.stdout is not None
    addresses = {}
    try:
        async with asyncio.timeout(20):
            async for line in process.stdout:
                if found := re.match(r"(\w+) +(http://\S+)", line.decode()):
                    addresses[found[1]] = found[2]
                if line.startswith(b"Ctrl-C"):
                    break
        yield process, addresses
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def until(url: str, wanted: str) -> str:
    """Wait until a page holds a text."""
    async with asyncio.timeout(20), ClientSession() as session:
        while True:
            try:
                async with session.get(url) as answer:
                    text = await answer.text()
            except OSError:
                text = ""
            if wanted in text:
                return text
            await asyncio.sleep(0.05)


async def ended(process: Process) -> int:
    process.send_signal(signal.SIGTERM)
    async with asyncio.timeout(40):
        return await process.wait()


def cart(now_ms: int) -> dict[str, Any]:
    now = format_ms(now_ms)
    return {
        "key": "pk_demo",
        "sentAt": now,
        "context": {"consent": "full", "contactId": "contact-1", "language": "sv-SE"},
        "events": [
            {
                "type": "cart",
                "id": "e1",
                "time": now,
                "cartReference": "cart-of-the-demo",
                "items": [{"sku": "a", "quantity": 1}],
            }
        ],
    }


async def test_the_demo_carries_a_cart_from_the_shop_to_voyado(
    environment: dict[str, str],
) -> None:
    async with started("demo", environment) as (process, at):
        assert set(at) == {"storefront", "console", "voyado", "dub", "postgrid", "public", "admin"}
        await until(f"{at['admin']}/readyz", "ready")
        page = await until(f"{at['storefront']}/", "<script async")
        assert f'src="{at["public"]}/collector.' in page
        assert 'integrity="sha384-' in page
        async with (
            ClientSession() as session,
            session.post(
                f"{at['public']}/v1/events",
                data=orjson.dumps(cart(SystemClock().now_ms())),
                headers={"Origin": at["storefront"], "Content-Type": "text/plain"},
            ) as answer,
        ):
            assert answer.status == 204
            assert answer.headers["Access-Control-Allow-Origin"] == at["storefront"]
        await until(f"{at['voyado']}/_sandbox/state", "cart-of-the-demo")
        await until(f"{at['console']}/api/events", '"state":"delivered"')
        assert await ended(process) == 0


async def test_the_demo_keeps_its_log_where_it_is_told(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    folder = tmp_path / "demo"
    async with started("demo", environment, "--data", str(folder)) as (process, at):
        await until(f"{at['admin']}/readyz", "ready")
        assert await ended(process) == 0
    assert (folder / "buffer.db").is_file()


@pytest.mark.parametrize(("dialect", "status"), [("current", 404), ("2024", 400)])
async def test_the_sandbox_runs_the_stand_ins_alone(
    environment: dict[str, str], dialect: str, status: int
) -> None:
    async with started("sandbox", environment, "--dub-dialect", dialect) as (process, at):
        assert set(at) == {"voyado", "dub", "postgrid"}
        await until(f"{at['voyado']}/_sandbox/state", '"Voyado"')
        await until(f"{at['dub']}/_sandbox/state", '"Dub"')
        await until(f"{at['postgrid']}/_sandbox/state", '"PostGrid"')
        key = {"Authorization": "Bearer dub_sandbox"}
        async with ClientSession(headers=key) as session:
            answer = await session.post(f"{at['dub']}/track/customer", data=b"")
            assert answer.status == status, "only in 2024 is there such a path"
        assert await ended(process) == 0
