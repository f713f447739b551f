"""How fast carts leave: into a Voyado that takes 100 ms a request, the rate limit lifted."""

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
from aiohttp import ClientSession, web

from gateway.adapters.clock import SystemClock
from gateway.model.instant import format_ms
from tests.bench.subjects import VOYADO, running
from tests.bench.usage import usage_of
from tests.gateways import ORIGIN, eventually, free_port

CARTS = 60_000
POST_CARTS = 500
ANSWER_SECONDS = 0.1


@dataclass
class Drained:
    """What came of it."""

    carts_per_second: float
    cpu_us: float
    requests: int
    resident_mb: float


class _Voyado:
    """Takes any batch of carts after a while, and counts them."""

    def __init__(self) -> None:
        self.carts = 0
        self.requests = 0
        self.began = 0.0
        self.ended = 0.0

    async def take(self, request: web.Request) -> web.Response:
        self.began = self.began or time.perf_counter()
        body = await request.read()
        await asyncio.sleep(ANSWER_SECONDS)
        self.carts += body.count(b'"cartReference"')
        self.requests += 1
        self.ended = time.perf_counter()
        return web.Response(status=200)

    @asynccontextmanager
    async def serve(self) -> AsyncIterator[str]:
        app = web.Application(client_max_size=1 << 24)
        app.router.add_post("/{path:.*}", self.take)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        port = free_port()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            await runner.cleanup()


async def drain() -> Drained:
    """Fill a log without a destination; then measure how it is emptied into one."""
    voyado = _Voyado()
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as name:
        folder = Path(name)
        async with running("", folder=folder) as filled:
            await _fill(filled.url)
            await filled.until_done()
        async with (
            voyado.serve() as url,
            running(VOYADO % url, ("voyado",), folder) as emptied,
        ):
            await eventually(lambda: _is(voyado.carts >= CARTS), 120, "drained", 0.05)
            used = usage_of(emptied.pid)
    seconds = voyado.ended - voyado.began
    return Drained(
        CARTS / seconds, used.cpu_seconds * 1e6 / CARTS, voyado.requests, used.resident_mb
    )


async def _is(value: bool) -> bool:  # noqa: FBT001 - what `eventually` asks for
    return value


async def _fill(url: str) -> None:
    headers = {"Origin": ORIGIN, "Content-Type": "text/plain"}
    context = {"consent": "full", "contactId": "contact-1", "language": "sv-SE"}
    async with ClientSession() as session:
        for first in range(0, CARTS, POST_CARTS):
            events = [_cart(number) for number in range(first, first + POST_CARTS)]
            body = orjson.dumps({"key": "pk_shop", "context": context, "events": events})
            async with session.post(url, data=body, headers=headers) as answer:
                assert answer.status == 204, await answer.text()


def _cart(number: int) -> dict[str, object]:
    return {
        "type": "cart",
        "id": f"cart-event-{number:026}",
        "time": format_ms(SystemClock().now_ms()),
        "cartReference": f"cart-{number}",
        "url": f"https://shop.example/cart/restore?reference={number}",
        "items": [
            {"sku": f"SKU-{number % 977:06}-BLUE", "quantity": 1 + number % 3},
            {"sku": f"SKU-{number % 1009:06}-RED", "quantity": 2},
        ],
    }
