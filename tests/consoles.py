"""A console over a buffer in memory, on a free port of the loopback, for tests of its clients."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp.test_utils import TestServer

from gateway.adapters.index import SqliteIndex
from gateway.adapters.memory import MemoryBuffer
from gateway.http.assets import data_folder
from gateway.http.console import ConsoleSettings, create_console
from gateway.ingest import Ingest, SiteSettings
from gateway.ledger import Ledger
from gateway.model.facts import Routes
from gateway.model.outcome import Outcome, Reason
from gateway.model.window import DedupSettings
from gateway.ports import Clock, IndexFailedError
from gateway.replay import Replay
from gateway.wiring.parts import check_again
from tests.written import (
    attempt,
    bury,
    delivered,
    event,
    judged,
    letter,
    note,
    postponed,
    take,
)

STATIC = data_folder("static")
ROUTES: Routes = {
    "shop": {
        "voyado": frozenset({"cart", "product"}),
        "dub": frozenset({"lead", "sale"}),
        "hook": frozenset({"cart", "lead", "sale", "product", "page"}),
    }
}


SITES = {"shop": SiteSettings(browser_keys=("pk_shop",))}


class Console:
    """What a test needs of a running console."""

    def __init__(self, buffer: MemoryBuffer, ledger: Ledger, server: TestServer) -> None:
        self.buffer = buffer
        self.ledger = ledger
        self.server = server
        self.url = str(server.make_url("/")).rstrip("/")

    async def caught_up(self) -> None:
        """Wait until everything published is in the index."""
        async with asyncio.timeout(10):
            while not await self._is_caught_up():
                await asyncio.sleep(0.02)

    async def _is_caught_up(self) -> bool:
        try:
            reading = await self.ledger.reading()
        except IndexFailedError:
            return False
        return not reading.behind and not reading.trouble


@asynccontextmanager
async def running(folder: Path, settings: ConsoleSettings, clock: Clock) -> AsyncIterator[Console]:
    """Run a console until the block ends."""
    buffer = MemoryBuffer(clock)
    ledger = Ledger(buffer, SqliteIndex(str(folder / "index.db"), 64 << 20), ROUTES, clock)
    following = asyncio.create_task(ledger.run())
    ingest = Ingest(SITES, buffer, clock, DedupSettings())
    replay = Replay(ledger, buffer, clock, ROUTES, lambda letter: check_again(ingest, letter))
    server = TestServer(create_console(ledger, replay, settings, STATIC))
    await server.start_server()
    console = Console(buffer, ledger, server)
    await console.caught_up()
    try:
        yield console
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        await server.close()


async def some_life(console: Console) -> None:
    """Publish a delivered cart, one that waits, a dead lead and a rejected event."""
    buffer = console.buffer
    now_ms = buffer._clock.now_ms()
    lead = event("e-lead", "lead", now_ms, eventName="Sign up", customerId="u-1")
    await take(
        buffer,
        event("e-cart", at_ms=now_ms, cartReference="c-1", items=[{"sku": "A", "quantity": 2}]),
        event("e-late", at_ms=now_ms, cartReference="c-2", items=[]),
        lead,
        event("e-cart", at_ms=now_ms, cartReference="c-1", items=[{"sku": "A", "quantity": 2}]),
        event("e-page", "page", now_ms, title="Shoes"),
    )
    await note(buffer, attempt(0, 1, at_ms=now_ms), delivered(0, at_ms=now_ms + 200))
    await note(
        buffer, postponed(1, at_ms=now_ms + 200), judged(3, Outcome.DUPLICATE, Reason.REPEATED)
    )
    await note(buffer, delivered(0, 1, 2, destination="hook", at_ms=now_ms + 300))
    await note(buffer, attempt(2, destination="dub", at_ms=now_ms))
    await note(buffer, judged(2, Outcome.DEAD, Reason.REFUSED, "dub"))
    await bury(buffer, letter(2, lead, "dub"), letter(None, event("e-bad"), "ingest"))
    await console.caught_up()
