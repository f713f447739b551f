"""A public application over a buffer in memory, on a free port."""

import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from pydantic import SecretStr

from gateway.adapters.memory import MemoryBuffer
from gateway.http.collector import SCRIPTS
from gateway.http.public import PublicRunner, create_public
from gateway.http.settings import HttpSettings
from gateway.ingest import Ingest, SiteSettings
from gateway.model.envelope import Envelope, decode
from gateway.model.instant import format_ms, parse_ms
from gateway.model.window import DedupSettings
from gateway.ports import Log

NOW = parse_ms("2026-11-21T10:15:00Z")
ORIGIN = "https://shop.example"
SITES = {
    "shop": SiteSettings(
        browser_keys=("pk_shop",), server_keys=(SecretStr("sk_secret"),), origins=(ORIGIN,)
    ),
}


class StoppedClock:
    def now_ms(self) -> int:
        return NOW


@dataclass
class Gateway:
    """A running public application, and a client of it."""

    buffer: MemoryBuffer
    client: aiohttp.ClientSession
    port: int
    app: web.Application

    async def post(
        self, body: object, headers: dict[str, str] | None = None
    ) -> aiohttp.ClientResponse:
        """Post as a page of the shop does; the answer's body is read."""
        sent = {"Origin": ORIGIN, "Content-Type": "text/plain;charset=UTF-8", **(headers or {})}
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        sent = {name: value for name, value in sent.items() if value}
        async with self.client.post("/v1/events", data=io.BytesIO(data), headers=sent) as answer:
            await answer.read()
        return answer

    async def get(
        self, path: str, headers: dict[str, str] | None = None, method: str = "GET"
    ) -> aiohttp.ClientResponse:
        """Make a request; the answer's body is read."""
        async with self.client.request(method, path, headers=headers) as answer:
            await answer.read()
        return answer

    async def envelopes(self) -> list[Envelope]:
        """Return what is in the log."""
        return [decode(each.value) for each in await self.buffer.read(Log.EVENTS, 0, 0, 10_000)]


def request(*events: Any, **context: Any) -> dict[str, Any]:
    return {"key": "pk_shop", "context": context, "events": list(events) or [page()]}


def page(number: int = 1, **fields: Any) -> dict[str, Any]:
    return {"type": "page", "id": f"e-{number}", "time": format_ms(NOW), **fields}


def told(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    """Return an error's body, having checked that it is one."""
    assert answer.content_type == "application/json"
    assert answer._body is not None
    body: dict[str, Any] = json.loads(answer._body)
    assert set(body) == {"error", "message"}
    assert len(body["message"]) > 20
    return body


@pytest.fixture
def http_settings(request: pytest.FixtureRequest) -> HttpSettings:
    """Return the settings; a test changes them by `@pytest.mark.parametrize(…, indirect=True)`."""
    return HttpSettings(**getattr(request, "param", {}))


@pytest.fixture
def collector_folder(tmp_path: Path) -> Path:
    for name in SCRIPTS:
        (tmp_path / name).write_bytes(b"plain")
        (tmp_path / f"{name}.br").write_bytes(b"brotli")
        (tmp_path / f"{name}.gz").write_bytes(b"gzip")
    about = {name: {"hash": "abc123", "integrity": "sha384-x"} for name in SCRIPTS}
    (tmp_path / "collector.json").write_text(json.dumps(about), "utf-8")
    return tmp_path


@pytest.fixture
async def gateway_without_collector(
    http_settings: HttpSettings, collector_folder: Path
) -> AsyncIterator[Gateway]:
    for name in SCRIPTS:
        (collector_folder / name).unlink()
    async with running(http_settings, collector_folder) as found:
        yield found


@pytest.fixture
async def gateway(http_settings: HttpSettings, collector_folder: Path) -> AsyncIterator[Gateway]:
    async with running(http_settings, collector_folder) as found:
        yield found


@asynccontextmanager
async def running(http_settings: HttpSettings, collector_folder: Path) -> AsyncIterator[Gateway]:
    clock = StoppedClock()
    buffer = MemoryBuffer(clock)
    ingest = Ingest(SITES, buffer, clock, DedupSettings(), publish_seconds=0.5)
    app = create_public(ingest, http_settings, clock, collector_folder)
    runner = PublicRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    client = aiohttp.ClientSession(
        f"http://127.0.0.1:{port}", auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
    )
    yield Gateway(buffer, client, port, app)
    await client.close()
    await runner.cleanup()
