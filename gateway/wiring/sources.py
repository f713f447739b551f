"""Builds what events come from besides the collector."""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.adapters.http_client import AiohttpClient
from gateway.adapters.postgrid.client import ANSWER_BYTES, PostGridClient
from gateway.adapters.postgrid.memory import Memory
from gateway.adapters.postgrid.pull import Puller
from gateway.adapters.postgrid.source import FETCH_SECONDS, ClientOrders, PostgridSource
from gateway.ingest import Ingest
from gateway.ports import Buffer, Clock
from gateway.settings.sections import Settings

_CONNECTIONS = 8
"""To all accounts: calls are few, and a poll makes one at a time."""


@dataclass(slots=True, frozen=True)
class Sources:
    """All sources of one process, by name; `pullers` lacks those that are not polled."""

    client: AiohttpClient
    hooked: Mapping[str, PostgridSource]
    pullers: Mapping[str, Puller]


def build_sources(settings: Settings, buffer: Buffer, ingest: Ingest, clock: Clock) -> Sources:
    """Build them. Webhooks and polling each have a client, so that neither waits for the other."""
    http = AiohttpClient(_CONNECTIONS, answer_bytes=ANSWER_BYTES)
    hooked, pullers = {}, {}
    for name, each in settings.sources.items():
        quick = PostGridClient(each, http, clock, patience_seconds=FETCH_SECONDS)
        memory = Memory(name, buffer)
        source = PostgridSource(each, memory, ingest, ClientOrders(quick), clock)
        hooked[name] = source
        if each.poll_seconds > 0:
            pullers[name] = Puller(name, PostGridClient(each, http, clock), source)
    return Sources(http, hooked, pullers)
