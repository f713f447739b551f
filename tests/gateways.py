"""A real `gateway run` process beside sandbox destinations, for system tests."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from aiohttp import ClientError, ClientSession, web

from gateway.adapters.kafka.settings import KafkaSettings
from gateway.adapters.sqlite.settings import SqliteSettings
from gateway.sandbox.dub import create_dub
from gateway.sandbox.dub_workspace import DubSandbox
from gateway.sandbox.voyado import VoyadoSandbox, create_voyado

BufferSettings = SqliteSettings | KafkaSettings
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
    """A gateway on a folder; killed and started again it goes on where it was.

    It is one process for each of `commands`; with Kafka these may be the roles, some twice.
    """

    folder: Path
    config: str
    commands: tuple[str, ...] = ("run",)
    public: int = field(default_factory=free_port)
    console: int = field(default_factory=free_port)
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    kills: int = 0
    _admins: dict[int, int] = field(default_factory=dict)
    _processes: dict[int, asyncio.subprocess.Process] = field(default_factory=dict)
    """By their place in `commands`."""

    @property
    def events_url(self) -> str:
        return f"http://127.0.0.1:{self.public}/v1/events"

    @property
    def admin(self) -> int:
        """The admin port of the first process."""
        return self._admins[0]

    @property
    def path(self) -> Path:
        return self.folder / "gateway.toml"

    @property
    def pid(self) -> int:
        """Of the first process."""
        return self._processes[0].pid

    async def start(self, *places: int) -> None:
        """Start all of it, or the processes at some places; wait until they are ready."""
        self.path.write_text(
            f'[http]\nlisten = "127.0.0.1:{self.public}"\n'
            f"[admin]\ndrain_seconds = 0\n"
            f'[console]\nlisten = "127.0.0.1:{self.console}"\n{self.config}'
        )
        started = places or tuple(range(len(self.commands)))
        for place in started:
            await self._start(place)
        for place in started:
            await eventually(partial(self._is_ready, place), 60, f"ready; its log:\n{self.log()}")

    async def _start(self, place: int) -> None:
        admin = self._admins.setdefault(place, free_port())
        with (self.folder / "gateway.log").open("ab") as log:
            self._processes[place] = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "gateway", self.commands[place], "--config", str(self.path),
                cwd=ROOT, stdout=log, stderr=log, stdin=asyncio.subprocess.DEVNULL,
                env=dict(self.environment, GATEWAY_ADMIN__LISTEN=f"127.0.0.1:{admin}"),
            )  # fmt: skip

    def send(self, which: signal.Signals, place: int = 0) -> None:
        """Send a process a signal."""
        self._processes[place].send_signal(which)

    async def kill(self, *places: int) -> None:
        """Kill all of it, or the processes at some places, as kill -9 does."""
        for place in places or tuple(self._processes):
            process = self._processes.pop(place)
            process.send_signal(signal.SIGKILL)
            await process.wait()
            self.kills += 1

    async def stop(self, *places: int) -> int:
        """End all of it, or some processes, by SIGTERM; the highest exit status."""
        ended = [self._processes.pop(place) for place in places or tuple(self._processes)]
        for process in ended:
            process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(60):
            return max([await process.wait() for process in ended])

    async def abandon(self) -> None:
        """At a test's end: leave nothing running."""
        for process in self._processes.values():
            if process.returncode is None:
                process.send_signal(signal.SIGKILL)
                await process.wait()

    def log(self) -> str:
        """What it printed."""
        path = self.folder / "gateway.log"
        return path.read_text() if path.exists() else ""

    async def metrics(self) -> dict[str, float]:
        """Its metrics by name and labels, summed over its processes that can be reached."""
        found: dict[str, float] = defaultdict(float)
        for admin in self._admins.values():
            try:
                async with (
                    ClientSession() as session,
                    session.get(f"http://127.0.0.1:{admin}/metrics") as answer,
                ):
                    text = await answer.text()
            except ClientError:
                continue
            lines = (line.rpartition(" ") for line in text.splitlines() if line[0] != "#")
            for name, _, value in lines:
                found[name] += float(value)
        return dict(found)

    async def until_drained(self, destinations: tuple[str, ...], seconds: float) -> None:
        """Wait until every destination has an outcome for everything."""
        lag: dict[str, float | None] = {}

        async def drained() -> bool:
            found = await self.metrics()
            for name in destinations:
                lag[name] = found.get(f'gateway_buffer_lag_events{{destination="{name}"}}')
            return not any(each != 0 for each in lag.values())

        try:
            await eventually(drained, seconds, "drained", every=0.03)
        except AssertionError as error:
            raise AssertionError(f"{error}: {lag}; its log:\n{self.log()[-3000:]}") from None

    async def _is_ready(self, place: int) -> bool:
        if self._processes[place].returncode is not None:
            raise AssertionError(f"it ended:\n{self.log()}")
        try:
            async with (
                ClientSession() as session,
                session.get(f"http://127.0.0.1:{self._admins[place]}/readyz") as answer,
            ):
                return answer.status == 200
        except (ClientError, OSError):
            return False


def buffer_section(buffer: BufferSettings) -> str:
    """The section of the configuration that gives these settings."""
    given = buffer.model_dump(mode="json", exclude_unset=True) | {"kind": buffer.kind}
    return "\n".join(
        ["[buffer]", *(f"{name} = {json.dumps(value)}" for name, value in given.items())]
    )


def config(
    folder: Path, there: Sandboxes, origin: str = ORIGIN, buffer: BufferSettings | None = None
) -> str:
    """A shop with Voyado, Dub and a file, tuned for tests; on the embedded log by default."""
    voyado_key = "sandbox-voyado-key"
    buffer = buffer or SqliteSettings(path=folder / "buffer.db")
    return f"""
{buffer_section(buffer)}
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
unanswered_wait_seconds = 0
batch_seconds = 0.1
rate_per_second = 5000
concurrency = 16
[destinations.archive]
kind = "file"
path = "{folder}/archive"
batch_seconds = 0.2
rate_per_second = 1000
"""
