"""Builds every part from the settings. Nothing is opened yet, and no event loop is needed."""

import asyncio
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from aiohttp import web

from gateway import __version__, metrics
from gateway.adapters.clock import SystemClock
from gateway.adapters.destinations.dub.destination import DubDestination
from gateway.adapters.destinations.dub.settings import DubSettings
from gateway.adapters.destinations.file import FileDestination, FileSettings
from gateway.adapters.destinations.voyado import VoyadoDestination, VoyadoSettings
from gateway.adapters.destinations.webhook import WebhookDestination, WebhookSettings
from gateway.adapters.http_client import HttpClients
from gateway.adapters.index import SqliteIndex
from gateway.adapters.kafka import KafkaBuffer, KafkaSettings
from gateway.adapters.kafka.look import look
from gateway.adapters.kafka.topics import Look
from gateway.adapters.sqlite import SqliteBuffer, SqliteSettings
from gateway.deliver.consume import Deliver
from gateway.deliver.steady import SteadyClock
from gateway.deliver.worker import House
from gateway.http.admin import Readiness, create_admin
from gateway.http.assets import data_folder
from gateway.http.console import create_console
from gateway.http.public import create_public
from gateway.ingest import Ingest, Problem, Refused
from gateway.ledger import Ledger
from gateway.model.dead import DeadLetter
from gateway.model.facts import RECENT
from gateway.ports import Buffer, BufferUnavailableError, Clock, Destination
from gateway.replay import Checked, Replay
from gateway.settings.checks import hand_over_seconds, needed_seconds
from gateway.settings.sections import AnyDestination, Settings
from gateway.wiring.sources import Sources, build_sources


@dataclass(slots=True, frozen=True)
class Parts:
    """All roles in one process: what runs, by what it is called."""

    settings: Settings
    clock: Clock
    buffer: Buffer
    client: HttpClients
    """Shared by the destinations."""
    ingest: Ingest
    ledger: Ledger
    destinations: Mapping[str, Destination]
    sources: Sources
    readiness: Readiness
    public: web.Application
    admin: web.Application
    console: web.Application


def build(settings: Settings, destination: str | None = None) -> Parts:
    """Build all roles; `destination`: deliver to this one only.

    Raises FileNotFoundError when the installation lacks its files.
    """
    clock = SystemClock()
    buffer = build_buffer(settings, clock)
    # One short of a connection, a request would wait and then seem to be unreachable.
    client = HttpClients(sum(each.concurrency for each in settings.destinations.values()) or 1)
    destinations = {
        name: build_destination(each, client, clock) for name, each in settings.destinations.items()
    }
    ingest = Ingest(settings.sites, buffer, clock, settings.dedup)
    index = SqliteIndex(str(index_path(settings)), settings.console.index_bytes)
    types = _types(settings, destinations)
    ledger = Ledger(buffer, index, types, clock)
    replay = Replay(ledger, buffer, clock, types, lambda letter: check_again(ingest, letter))
    sources = build_sources(settings, buffer, ingest, clock)
    readiness = Readiness()
    static = data_folder("static")
    metrics.BUILD_INFO.labels(__version__, platform.python_version()).set(1)
    return Parts(
        settings=settings,
        clock=clock,
        buffer=buffer,
        client=client,
        ingest=ingest,
        ledger=ledger,
        destinations=destinations
        if destination is None
        else {destination: destinations[destination]},
        sources=sources,
        readiness=readiness,
        public=create_public(ingest, settings.http, clock, static / "dist", sources.hooked),
        admin=create_admin(readiness),
        console=create_console(ledger, replay, settings.console, static),
    )


def build_buffer(settings: Settings, clock: Clock) -> Buffer:
    """Build the buffer by its kind."""
    match settings.buffer:
        case SqliteSettings():
            names = tuple(settings.destinations)
            return SqliteBuffer(settings.buffer, clock, names, settings.dedup)
        case KafkaSettings():
            return KafkaBuffer(
                settings.buffer, needed_seconds(settings), hand_over_seconds(settings)
            )
        case _:
            assert_never(settings.buffer)


def look_at_buffer(settings: Settings) -> Look | None:
    """Ask Kafka whether its logs may be used, and make none; None with the embedded log.

    Raises BufferUnavailableError where no broker answers, and BufferUnusableError.
    """
    match settings.buffer:
        case SqliteSettings():
            return None
        case KafkaSettings():
            return asyncio.run(look(settings.buffer, needed_seconds(settings)))
        case _:
            assert_never(settings.buffer)


def index_path(settings: Settings) -> Path:
    """Return where the console's index lies: beside the embedded log, unless that is set."""
    if settings.console.index_path is not None:
        return settings.console.index_path
    match settings.buffer:
        case SqliteSettings(path=path):
            return path.with_name(f"{path.stem}-index.db")
        case KafkaSettings(topic_prefix=prefix):
            return Path("data", f"{prefix}index.db")
        case _:
            assert_never(settings.buffer)


def build_destination(settings: AnyDestination, http: HttpClients, clock: Clock) -> Destination:
    """Build a destination by its kind."""
    match settings:
        case VoyadoSettings():
            return VoyadoDestination(settings, http.any_address, clock)
        case DubSettings():
            return DubDestination(settings, http.any_address, clock)
        case WebhookSettings():
            allowed = settings.allow_private_addresses
            client = http.any_address if allowed else http.public_only
            return WebhookDestination(settings, client, clock)
        case FileSettings():
            return FileDestination(settings, clock)
        case _:
            assert_never(settings)


async def check_again(ingest: Ingest, letter: DeadLetter) -> Checked:
    """Take an event that ingest had rejected through its checks again, for a replay."""
    came = await ingest.again(letter)
    if isinstance(came, Refused):
        if came.problem is Problem.UNAVAILABLE:
            raise BufferUnavailableError(came.detail)
        return Checked(accepted=False, detail=f"there is no site {letter.site} any more")
    [result] = came.results
    if result.refusal is None:
        return Checked(accepted=True)
    return Checked(accepted=False, detail=f"{result.refusal.reason}: {result.refusal.message}")


def build_deliver(parts: Parts) -> dict[str, Deliver]:
    """Build the delivery to each destination, in the running event loop."""
    settings = parts.settings
    rising = asyncio.get_running_loop().time
    house = House(
        buffer=parts.buffer,
        routes={name: frozenset(site.destinations) for name, site in settings.sites.items()},
        clock=SteadyClock(parts.clock, rising),
        dedup=settings.dedup,
        retention_seconds=settings.buffer.retention_seconds,
    )
    return {
        name: Deliver(name, destination, settings.destinations[name], house)
        for name, destination in parts.destinations.items()
    }


def _types(
    settings: Settings, destinations: Mapping[str, Destination]
) -> dict[str, dict[str, frozenset[str]]]:
    """Return which types each destination of each site takes: what the ledger waits for."""
    taken = {
        name: frozenset(
            {*settings.destinations[name].events, *([RECENT] if each.needs_contact else [])}
        )
        for name, each in destinations.items()
    }
    return {
        name: {each: taken[each] for each in site.destinations}
        for name, site in settings.sites.items()
    }
