"""What is measured: a process that takes events, started anew for each measurement."""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aiohttp import ClientSession

from gateway.adapters.sqlite import SqliteSettings
from tests.bench.server import PARTITIONS
from tests.brokers import Broker, on_broker
from tests.gateways import (
    ORIGIN,
    ROOT,
    BufferSettings,
    Gateway,
    buffer_section,
    eventually,
    sandboxes,
)

LATEST_SECONDS = 300
"""Until what was taken in is done with."""


class Subject(Protocol):
    """A process that answers `POST /v1/events`."""

    @property
    def pid(self) -> int:
        """Whose CPU time and memory count."""

    @property
    def url(self) -> str:
        """Where events are posted."""

    async def until_done(self) -> None:
        """Wait until nothing is left to do of what was taken in."""


@dataclass(frozen=True, slots=True)
class Case:
    """A line of the table."""

    name: str
    start: Callable[[], AbstractAsyncContextManager[Subject]]


@dataclass
class _Alone:
    pid: int
    url: str

    async def until_done(self) -> None:
        """It has nothing else to do."""


@dataclass
class Whole:
    """A gateway, and the destinations that it delivers to."""

    gateway: Gateway
    destinations: tuple[str, ...]

    @property
    def pid(self) -> int:
        return self.gateway.pid

    @property
    def url(self) -> str:
        return self.gateway.events_url

    async def until_done(self) -> None:
        await self.gateway.until_drained(self.destinations, LATEST_SECONDS)
        if self.gateway.commands == ("run",):
            await eventually(self._is_indexed, LATEST_SECONDS, "indexed")

    async def _is_indexed(self) -> bool:
        url = f"http://127.0.0.1:{self.gateway.console}/api/summary"
        async with ClientSession() as session, session.get(url) as answer:
            summary = await answer.json()
        return bool(summary["reading"]["behind"] == 0)


def alone(kind: str) -> Callable[[], AbstractAsyncContextManager[Subject]]:
    """Return a starter of `tests.bench.server`."""

    @asynccontextmanager
    async def start() -> AsyncIterator[Subject]:
        with tempfile.TemporaryDirectory(prefix="gateway-bench-") as folder:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.bench.server", kind, folder,
                cwd=ROOT, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            assert process.stdout is not None
            try:
                port = int(await process.stdout.readline())
                yield _Alone(process.pid, f"http://127.0.0.1:{port}/v1/events")
            finally:
                process.kill()
                await process.wait()

    return start


@asynccontextmanager
async def running(
    destinations: str = "",
    names: tuple[str, ...] = (),
    folder: Path | None = None,
    *,
    buffer: BufferSettings | None = None,
    command: str = "run",
) -> AsyncIterator[Whole]:
    """Start a gateway with these destinations, on `folder` or on one that is removed."""
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as own:
        home = folder or Path(own)
        config = f"""
{buffer_section(buffer or SqliteSettings(path=home / "buffer.db"))}
[sites.shop]
browser_keys = ["pk_shop"]
origins = ["{ORIGIN}"]
destinations = [{", ".join(f'"{name}"' for name in names)}]
{destinations.format(home=home)}
"""
        gateway = Gateway(home, config, (command,))
        try:
            await gateway.start()
            yield Whole(gateway, names)
            await gateway.stop()
        finally:
            await gateway.abandon()


FILE = """
[destinations.archive]
kind = "file"
path = "{home}/archive"
batch_events = 1000
batch_seconds = 0.1
rate_per_second = 1000
"""
VOYADO = """
[destinations.voyado]
kind = "voyado"
base_url = "%s"
api_key = "sandbox-voyado-key"
batch_events = 1000
batch_seconds = 0.1
rate_per_second = 1000
concurrency = 16
"""


@asynccontextmanager
async def _to_sandbox() -> AsyncIterator[Whole]:
    async with (
        sandboxes() as there,
        running(VOYADO % there.voyado_url, ("voyado",)) as whole,
    ):
        yield whole


def cases(broker: Broker | None) -> tuple[Case, ...]:
    """Return what is compared, the measure first; Kafka where there is a broker."""
    found = (
        Case("bare aiohttp", alone("bare")),
        Case("checked, buffer at once", alone("checked")),
        Case("embedded log, ingest alone", alone("embedded")),
        Case("run", running),
        Case("run, file", lambda: running(FILE, ("archive",))),
        Case("run, sandbox Voyado", _to_sandbox),
    )
    if broker is None:
        return found
    return (*found, Case("Kafka, ingest", lambda: _to_kafka(broker)))


def _to_kafka(broker: Broker) -> AbstractAsyncContextManager[Whole]:
    return running(buffer=on_broker(broker, PARTITIONS), command="ingest")
