"""The life of a process: open, serve, deliver, and on a signal end in order."""

import asyncio
import gc
import logging
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import uvloop
from aiohttp import web

from gateway.adapters.kafka.settings import KafkaSettings
from gateway.http.public import PublicRunner
from gateway.http.runner import QuietRunner
from gateway.model.retry import backoff_seconds
from gateway.ports import BufferUnavailableError
from gateway.settings.sections import Settings
from gateway.wiring.parts import Parts, build, build_deliver
from gateway.wiring.servers import CannotListenError, Server
from gateway.wiring.stop import Stop, end_all, leave

_log = logging.getLogger("gateway")

COLLECT_AT = (10_000, 20, 20)
"""When the collector of garbage looks: a request makes hundreds of objects, and leaves no cycles.

At Python's 700, 10, 10 it took a sixth of the CPU time, mostly walking what was built at start.
"""
LONGEST_RESTART_SECONDS = 60.0
LONGEST_OPENING_SECONDS = 10.0
"""Between two tries to reach Kafka at the start."""
_SIDE_SECONDS = 1.0
"""How long requests to the admin and console ports may take to end."""


class Role(StrEnum):
    """What a process does; `gateway run` does all of it."""

    INGEST = "ingest"
    DELIVER = "deliver"
    CONSOLE = "console"


ALL_ROLES = frozenset(Role)


@dataclass(slots=True, frozen=True)
class Sockets:
    """Ports taken beforehand, where addresses must be known before anything is built."""

    public: socket.socket
    admin: socket.socket
    console: socket.socket


def run(
    settings: Settings, roles: frozenset[Role] = ALL_ROLES, destination: str | None = None
) -> int:
    """Run roles until a signal; return the exit status. `destination`: deliver to this one only.

    Raises CannotListenError, BufferUnavailableError and FileNotFoundError before it serves.
    """
    return run_loop(Process(build(settings, destination), roles).run)


def run_loop(main: Callable[[Stop], Awaitable[int]]) -> int:
    """Run `main` in an event loop, ended by signals. What has been built by now stays."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AT)

    async def listening() -> int:
        stop = Stop()
        stop.listen()
        return await main(stop)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(listening())


class Process:
    """Roles in one process. `beside` are servers that live as long (the demo's stand-ins)."""

    def __init__(
        self,
        parts: Parts,
        roles: frozenset[Role] = ALL_ROLES,
        sockets: Sockets | None = None,
        beside: Sequence[Server] = (),
    ) -> None:
        settings = parts.settings
        self._parts = parts
        self._roles = roles
        self._admin_settings = settings.admin
        self._public = Server(
            "events",
            PublicRunner(parts.public, shutdown_timeout=_SIDE_SECONDS),
            "http.listen",
            sockets.public if sockets else settings.http.listen,
            grace_seconds=settings.admin.stop_seconds / 2,
        )
        self._admin = side_server(
            "admin",
            parts.admin,
            "admin.listen",
            sockets.admin if sockets else settings.admin.listen,
        )
        self._console = side_server(
            "console",
            parts.console,
            "console.listen",
            sockets.console if sockets else settings.console.listen,
        )
        self._beside = tuple(beside)
        self._ending = asyncio.Event()
        self._delivering: dict[str, asyncio.Task[None]] = {}
        self._pulling: dict[str, asyncio.Task[None]] = {}
        self._ledger: asyncio.Task[None] | None = None

    async def run(self, stop: Stop) -> int:
        """Open, serve and deliver until `stop`; return the exit status.

        Raises BufferUnavailableError, CannotListenError; what was opened is closed then.
        """
        try:
            await self._start_sides()
            if await self._opened(stop):
                await self._begin()
                await stop.asked()
                await self._drain(stop)
        finally:
            await self._end()
        _log.info("stopped; every position is kept")
        return 0

    async def _start_sides(self) -> None:
        """Serve what needs no buffer. A second process waits for the first one's admin port too."""
        for server in self._beside:
            await server.start()
        try:
            await self._admin.start()
        except CannotListenError:
            _log.info("the admin port is taken; trying again when the buffer is open")

    async def _opened(self, stop: Stop) -> bool:
        """Open the buffer; False when the end was asked for while it waited for its lock."""
        opening = asyncio.create_task(self._open())
        asked = asyncio.create_task(stop.asked())
        await asyncio.wait({opening, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if opening.done():
            await opening
            return True
        opening.cancel()
        await asyncio.wait({opening})
        return False

    async def _open(self) -> None:
        """Open the buffer. Kafka may come later than we do: try until it is there."""
        failures = 0
        while True:
            try:
                return await self._parts.buffer.start()
            except BufferUnavailableError as error:
                if not isinstance(self._parts.settings.buffer, KafkaSettings):
                    raise
                _log.warning("%s; trying again", error)
            failures += 1
            await asyncio.sleep(min(LONGEST_OPENING_SECONDS, backoff_seconds(failures, 1.0)))

    async def _begin(self) -> None:
        """Serve and deliver. The ports are all taken before the first one answers."""
        parts = self._parts
        servers = {Role.INGEST: self._public, Role.CONSOLE: self._console}
        for server in (self._admin, *(servers[each] for each in servers if each in self._roles)):
            server.take()
        if not self._admin.is_serving:
            await self._admin.start()
        if {Role.INGEST, Role.CONSOLE} & self._roles:
            await parts.sources.client.start()
        if Role.INGEST in self._roles:
            parts.ingest.start()
            await self._public.start()
        parts.readiness.started()
        if Role.CONSOLE in self._roles:
            self._ledger = asyncio.create_task(parts.ledger.run())
            self._ledger.add_done_callback(_report)
            await self._console.start()
            self._pull()
        if Role.DELIVER in self._roles:
            await self._deliver()

    def _pull(self) -> None:
        for name, puller in self._parts.sources.pullers.items():
            self._pulling[name] = asyncio.create_task(
                keep_running(f"source {name}", puller.run, self._ending)
            )

    async def _deliver(self) -> None:
        await self._parts.client.start()
        for name, deliver in build_deliver(self._parts).items():
            self._delivering[name] = asyncio.create_task(
                keep_running(name, deliver.run, self._ending)
            )
        _log.info("delivering to %s", ", ".join(self._delivering) or "no destination")

    async def _drain(self, stop: Stop) -> None:
        self._parts.readiness.stopping()
        if stop.wants_drain:
            await asyncio.sleep(self._admin_settings.drain_seconds)

    async def _end(self) -> None:
        """End in order: traffic and deliveries, then what they rest on. Leaves if that hangs."""
        seconds = self._admin_settings.stop_seconds
        deadline = asyncio.get_running_loop().time() + seconds
        self._ending.set()
        for work in self._ends():
            hung = await end_all(work, deadline)
            if hung:
                _log.error("did not end within %g s: %s; leaving", seconds, ", ".join(hung))
                leave(1)

    def _ends(self) -> Iterator[dict[str, Coroutine[Any, Any, None]]]:
        """Yield what may end side by side; the next only when that has."""
        parts = self._parts
        yield {
            self._public.name: self._public.stop(),
            **{name: _ended(task) for name, task in self._delivering.items()},
            **{f"source {name}": _cancelled(task) for name, task in self._pulling.items()},
        }
        yield {
            "ingest": parts.ingest.stop(),
            "ledger": self._end_ledger(),
            self._console.name: self._console.stop(),
        }
        yield {
            "buffer": parts.buffer.stop(),
            "HTTP client": parts.client.stop(),
            "HTTP client of sources": parts.sources.client.stop(),
        }
        yield {each.name: each.stop() for each in (*self._beside, self._admin)}

    async def _end_ledger(self) -> None:
        if self._ledger is not None:
            await _cancelled(self._ledger)


async def keep_running(
    name: str, work: Callable[[asyncio.Event], Awaitable[None]], ending: asyncio.Event
) -> None:
    """Run a destination's delivery, or a source's polling, until `ending`; again when it fails.

    One that cannot be opened, or has a fault, hurts no other.
    """
    failures = 0
    while not ending.is_set():
        try:
            await work(ending)
        except OSError as error:
            _log.error("%s: cannot be opened, trying again: %s", name, error)
        except Exception:  # noqa: BLE001 - one destination's fault must not end the others
            _log.exception("%s: failed, starting again", name)
        else:
            return
        failures += 1
        wait = min(LONGEST_RESTART_SECONDS, backoff_seconds(failures, 1.0))
        try:
            async with asyncio.timeout(wait):
                await ending.wait()
        except TimeoutError:
            continue


def side_server(
    name: str, app: web.Application, setting: str, where: str | socket.socket
) -> Server:
    """Return the server of an application that nothing depends on: it ends within a second."""
    runner = QuietRunner(app, shutdown_timeout=_SIDE_SECONDS)
    return Server(name, runner, setting, where)


async def _ended(task: asyncio.Task[None]) -> None:
    await asyncio.wait({task})


async def _cancelled(task: asyncio.Task[None]) -> None:
    """End what may be cut short anywhere: a poll, of which nothing is kept that is not durable."""
    task.cancel()
    await asyncio.wait({task})


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        _log.error("the ledger ended: the console shows nothing new", exc_info=error)
