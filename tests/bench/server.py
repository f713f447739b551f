"""Serves one of the things that the gateway is compared with; prints its port when it is ready.

bare      aiohttp alone: read the body, answer 204
checked   the public app over a buffer that acknowledges at once
embedded  the public app over the embedded log, in FOLDER; neither ledger nor delivery
"""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import uvloop
from aiohttp import web

from gateway.adapters.clock import SystemClock
from gateway.adapters.memory import MemoryBuffer
from gateway.adapters.sqlite import SqliteBuffer, SqliteSettings
from gateway.http.public import HANDLER_ARGS, PublicRunner, create_public
from gateway.http.settings import HttpSettings
from gateway.ingest import Ingest, SiteSettings
from gateway.model.window import DedupSettings
from gateway.ports import Buffer, Draft, Log
from gateway.wiring.run import COLLECT_AT
from tests.gateways import ORIGIN, ROOT

PARTITIONS = 4
CLOCK = SystemClock()
DEDUP = DedupSettings()


class ForgetfulBuffer(MemoryBuffer):
    """Acknowledges at once, and keeps nothing."""

    async def publish(self, log: Log, drafts: Sequence[Draft]) -> list[int]:  # noqa: ARG002 - the port's
        return [0] * len(drafts)


@asynccontextmanager
async def _bare() -> AsyncIterator[web.AppRunner]:
    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=204)

    app = web.Application(handler_args=HANDLER_ARGS)
    app.router.add_post("/v1/events", answer)
    yield web.AppRunner(app, access_log=None, **HANDLER_ARGS)


@asynccontextmanager
async def _over(buffer: Buffer) -> AsyncIterator[web.AppRunner]:
    site = SiteSettings(browser_keys=("pk_shop",), origins=(ORIGIN,))
    ingest = Ingest({"shop": site}, buffer, CLOCK, DEDUP)
    await buffer.start()
    ingest.start()
    app = create_public(ingest, HttpSettings(), CLOCK, ROOT / "static" / "dist")
    try:
        yield PublicRunner(app, access_log=None)
    finally:
        await ingest.stop()
        await buffer.stop()


def _runner(kind: str, folder: Path) -> AbstractAsyncContextManager[web.AppRunner]:
    match kind:
        case "bare":
            return _bare()
        case "checked":
            return _over(ForgetfulBuffer(CLOCK, PARTITIONS))
        case "embedded":
            settings = SqliteSettings(path=folder / "buffer.db")
            return _over(SqliteBuffer(settings, CLOCK, (), DEDUP))
        case _:
            sys.exit("python -m tests.bench.server bare|checked|embedded FOLDER")


async def _serve(kind: str, folder: Path) -> None:
    async with _runner(kind, folder) as runner:
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        print(runner.addresses[0][1], flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AT)  # as `gateway run` does
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(_serve(sys.argv[1], Path(sys.argv[2])))
