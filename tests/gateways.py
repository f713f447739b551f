"""A real `gateway run` process beside sandbox destinations, for system tests."""

import asyncio
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import ClientError, ClientSession, web

from gateway.sandbox.dub import create_dub
from gateway.sandbox.dub_workspace import DubSandbox
from gateway.sandbox.voyado import VoyadoSandbox, create_voyado

ROOT = Path(__file__).parent.parent
ORIGIN = "http://shop.test"


async def eventually(
    condition: Callable[[], Awaitable[bool]], seconds: float, what: str, every: float = 0.1
) -> None:
    """Wait for a condition with a deadline."""
    try:
        async with asyncio.timeout(seconds):
            while not await condition():
                await asyncio.sleep(every)
    except TimeoutError:
        raise AssertionError(f"not within {seconds} s: {what}") from None


def free_port() -> int:
    """A port that nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Sandboxes:
    """Stand-ins of Voyado and Dub in this process; they outlive every gateway."""

    voyado: web.Application
    dub: web.Application
    voyado_url: str
    dub_url: str


@asynccontextmanager
async def sandboxes() -> AsyncIterator[Sandboxes]:
    """Start the stand-ins, without rate limits."""
    static = ROOT / "static" / "sandbox"
    voyado = create_voyado(VoyadoSandbox(requests_per_second=None), static)
    dub = create_dub(DubSandbox(requests_per_minute=None), static)
    runners = [web.AppRunner(app, handler_cancellation=False) for app in (voyado, dub)]
    urls = []
    for runner in runners:
        port = free_port()
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        urls.append(f"http://127.0.0.1:{port}")
    try:
        yield Sandboxes(voyado, dub, *urls)
    finally:
        for runner in runners:
            await runner.cleanup()


@dataclass
class Gateway:
    """A gateway process on a folder; killed and started again it goes on where it was."""

    folder: Path
    config: str
    public: int = field(default_factory=free_port)
    admin: int = field(default_factory=free_port)
    console: int = field(default_factory=free_port)
    kills: int = 0
    _process: asyncio.subprocess.Process | None = None

    @property
    def events_url(self) -> str:
        return f"http://127.0.0.1:{self.public}/v1/events"

    @property
    def path(self) -> Path:
        return self.folder / "gateway.toml"

    @property
    def pid(self) -> int:
        """Of the process that was started last."""
        assert self._process is not None
        return self._process.pid

    async def start(self) -> None:
        """Start it, and wait until it is ready."""
        self.path.write_text(
            f'[http]\nlisten = "127.0.0.1:{self.public}"\n'
            f'[admin]\nlisten = "127.0.0.1:{self.admin}"\ndrain_seconds = 0\n'
            f'[console]\nlisten = "127.0.0.1:{self.console}"\n{self.config}'
        )
        log = (self.folder / "gateway.log").open("ab")
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "gateway", "run", "--config", str(self.path),
            cwd=ROOT, stdout=log, stderr=log, stdin=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        log.close()
        await eventually(self._is_ready, 30, f"ready; its log:\n{self.log()}")

    async def kill(self) -> None:
        """Kill it as kill -9 does."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        await self._process.wait()
        self.kills += 1

    async def stop(self) -> int:
        """SIGTERM; the exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(45):
            return await self._process.wait()

    async def abandon(self) -> None:
        """At a test's end: leave nothing running."""
        if self._process is not None and self._process.returncode is None:
            await self.kill()

    def log(self) -> str:
        """What it printed."""
        path = self.folder / "gateway.log"
        return path.read_text() if path.exists() else ""

    async def metrics(self) -> dict[str, float]:
        """Its metrics by name and labels; empty while it can't be reached."""
        try:
            async with (
                ClientSession() as session,
                session.get(f"http://127.0.0.1:{self.admin}/metrics") as answer,
            ):
                text = await answer.text()
        except ClientError:
            return {}
        lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in lines}

    async def until_drained(self, destinations: tuple[str, ...], seconds: float) -> None:
        """Wait until every destination has an outcome for everything."""

        async def drained() -> bool:
            found = await self.metrics()
            names = [f'gateway_buffer_lag_events{{destination="{each}"}}' for each in destinations]
            return all(found.get(name) == 0 for name in names)

        await eventually(drained, seconds, f"drained; its log:\n{self.log()[-3000:]}")

    async def _is_ready(self) -> bool:
        assert self._process is not None
        if self._process.returncode is not None:
            raise AssertionError(f"it ended:\n{self.log()}")
        try:
            async with (
                ClientSession() as session,
                session.get(f"http://127.0.0.1:{self.admin}/readyz") as answer,
            ):
                return answer.status == 200
        except (ClientError, OSError):
            return False


def config(folder: Path, there: Sandboxes, origin: str = ORIGIN) -> str:
    """A shop with Voyado, Dub and a file, tuned for tests."""
    voyado_key = "sandbox-voyado-key"
    return f"""
[buffer]
kind = "sqlite"
path = "{folder}/buffer.db"
[sites.shop]
browser_keys = ["pk_shop"]
server_keys = ["sk_shop_0123456789abcdef"]
origins = ["{origin}"]
destinations = ["voyado", "dub", "archive"]
[destinations.voyado]
kind = "voyado"
base_url = "{there.voyado_url}"
api_key = "{voyado_key}"
batch_seconds = 0.2
rate_per_second = 1000
[destinations.dub]
kind = "dub"
base_url = "{there.dub_url}"
api_key = "dub_sandbox"
batch_seconds = 0.1
rate_per_second = 5000
concurrency = 16
[destinations.archive]
kind = "file"
path = "{folder}/archive"
batch_seconds = 0.2
rate_per_second = 1000
"""
