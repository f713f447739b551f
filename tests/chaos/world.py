"""What a run of the chaos suite stands on: a gateway under load, and what may be broken of it."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from gateway.adapters.clock import SystemClock
from gateway.adapters.kafka import KafkaBuffer
from gateway.adapters.sqlite import SqliteBuffer
from gateway.adapters.sqlite.settings import SqliteSettings
from gateway.model.window import DedupSettings
from gateway.ports import Buffer
from gateway.sandbox.dub import DUB
from tests.brokers import Broker, on_broker
from tests.gateways import BufferSettings, Gateway, Sandboxes, config, sandboxes
from tests.loads import Load

SESSION_SECONDS = 3.0
TIMEOUT_SECONDS = 2
DOUBT_SECONDS = 4 * TIMEOUT_SECONDS
DISK_SIZE = "64m"
FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1")
ROLES = ("ingest", "console", "deliver", "deliver", "deliver")
"""On Kafka. The last one is a spare: it comes and goes."""


@dataclass
class World:
    """What a fault may strike."""

    rng: Random
    gateway: Gateway
    there: Sandboxes
    load: Load
    settings: BufferSettings
    broker: Broker | None
    disk: Path | None
    """A small file system with the embedded log on it, where one may be mounted."""
    clock: Path | None
    """Says how wrong the gateway's clock is, where that can be arranged."""

    @property
    def places(self) -> range:
        """The processes that run from beginning to end."""
        return range(len(self.gateway.commands) - (self.broker is not None))

    def buffer(self) -> Buffer:
        """Return the gateway's buffer, to read it."""
        if isinstance(self.settings, SqliteSettings):
            return SqliteBuffer(self.settings, SystemClock(), (), DedupSettings())
        return KafkaBuffer(self.settings, keep_seconds=1, hand_over_seconds=1)


@asynccontextmanager
async def world(
    folder: Path, seed: int, events: int, broker: Broker | None
) -> AsyncIterator[World]:
    """Start the gateway: on Kafka if there is a broker, else on the embedded log."""
    rng = Random(seed)
    load = Load(rng, SystemClock().now_ms(), events, pause_seconds=2.0)
    load.make()
    async with sandboxes() as there:
        for click in load.clicks:
            there.dub[DUB].click("summer", click)
        with _small_disk(folder / "disk", wanted=broker is None) as disk:
            settings = _settings(disk or folder, broker)
            text = (
                config(folder, there, buffer=settings)
                .replace("api_key =", f"timeout_seconds = {TIMEOUT_SECONDS}\napi_key =")
                # Longer than any delay: two of one invoice at once are two sales, as at Dub.
                .replace("answered_wait_seconds = 0", f"answered_wait_seconds = {DOUBT_SECONDS}")
            )
            gateway = Gateway(folder, text, ROLES if broker else ("run",))
            found = World(rng, gateway, there, load, settings, broker, disk, None)
            found.clock = _own_clock(folder / "clock", gateway)
            try:
                await gateway.start(*found.places)
                yield found
            finally:
                await gateway.abandon()


def _settings(folder: Path, broker: Broker | None) -> BufferSettings:
    if broker is None:
        return SqliteSettings(path=folder / "buffer.db")
    return on_broker(broker, partitions=4).model_copy(update={"session_seconds": SESSION_SECONDS})


@contextmanager
def _small_disk(folder: Path, *, wanted: bool) -> Iterator[Path | None]:
    """Mount a file system that can be filled; None where that is not allowed."""
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    if not wanted or mount is None or unmount is None or os.geteuid() != 0:
        yield None
        return
    folder.mkdir()
    options = ("-t", "tmpfs", "-o", f"size={DISK_SIZE}", "gateway-chaos", folder)
    if subprocess.run([mount, *options], check=False, capture_output=True).returncode:
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run([unmount, "--lazy", folder], check=True)


def _own_clock(path: Path, gateway: Gateway) -> Path | None:
    """Give the gateway's processes a wall clock that can be set, if libfaketime is there."""
    if not FAKETIME.exists():
        return None
    path.write_text("+0")
    gateway.environment = {
        **gateway.environment,
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(path),
        "FAKETIME_CACHE_DURATION": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    return path
