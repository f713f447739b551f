"""What a source remembers: the last state of each order, how far each listing was read.

It is kept in the `state` log, under `source/NAME/…`, written after the events are published: a
crash between the two brings them again, and the window tells copies. Every process that takes
webhooks reads on in the log before it judges, so replicas know of each other.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import orjson

from gateway.adapters.postgrid.translate import OrderState
from gateway.model.routing import partition_of
from gateway.ports import Buffer, Draft, Log, Record

_log = logging.getLogger(__name__)

PAGE = 1000
MOST_ORDERS = 200_000
"""Held in memory; the one that was quiet longest is forgotten first."""


class Listing(NamedTuple):
    """How far a listing was read: all before `floor_ms` is done, from there on what `done` names.

    `rows` is how many it had when it was read to its end; -1 when some were left for later.
    """

    rows: int = 0
    floor_ms: int = 0
    done: Mapping[str, int] = MappingProxyType({})
    """When each was created, by its id."""

    def holds(self, item_id: str, created_ms: int) -> bool:
        """Whether an item was done before."""
        return created_ms < self.floor_ms or item_id in self.done


class Memory:
    """Reads and writes a source's part of the `state` log. All raises BufferFailedError."""

    def __init__(self, name: str, buffer: Buffer) -> None:
        self.orders: dict[str, OrderState] = {}
        """By the order's id, the one that was quiet longest first."""
        self.visits: dict[str, str] = {}
        """Visits that webhooks brought and no poll has come upon yet, with their trackers."""
        self.listings: dict[str, Listing] = {}
        self._prefix = f"source/{name}/"
        self._buffer = buffer
        self._next: dict[int, int] = {}
        self._reading: dict[int, asyncio.Lock] = {}

    async def refresh(self, kind: str, item_id: str) -> None:
        """Read on where an item's record is: afterwards all that was written before is known."""
        await self._read_on(self._home(self._key(kind, item_id)))

    async def refresh_all(self) -> None:
        """Read on everywhere."""
        for partition in range(self._buffer.partitions):
            await self._read_on(partition)

    async def keep(
        self,
        orders: Mapping[str, OrderState] | None = None,
        visits: Mapping[str, str] | None = None,
        listings: Mapping[str, Listing] | None = None,
    ) -> None:
        """Write what is to be remembered; known once it is durable."""
        await self._write(
            [
                *((self._key("order", name), _of_order(each)) for name, each in _items(orders)),
                *((self._key("visit", name), orjson.dumps(each)) for name, each in _items(visits)),
                *((self._key("listing", n), _of_listing(each)) for n, each in _items(listings)),
            ]
        )

    async def forget(self, orders: Sequence[str] = (), visits: Sequence[str] = ()) -> None:
        """Remove records from the log."""
        await self._write(
            [
                *((self._key("order", name), b"") for name in orders),
                *((self._key("visit", name), b"") for name in visits),
            ]
        )

    async def _write(self, records: Sequence[tuple[str, bytes]]) -> None:
        if not records:
            return
        drafts = [Draft(self._home(key), value, key.encode()) for key, value in records]
        await self._buffer.publish(Log.STATE, drafts)
        for key, value in records:
            self._learn(key, value)

    async def _read_on(self, partition: int) -> None:
        async with self._reading.setdefault(partition, asyncio.Lock()):
            offset = self._next.get(partition, 0)
            while page := await self._buffer.read(Log.STATE, partition, offset, PAGE):
                for record in page:
                    self._take(record)
                offset = page[-1].offset + 1
                self._next[partition] = offset

    def _take(self, record: Record) -> None:
        key = record.key.decode("utf-8", "replace")
        if key.startswith(self._prefix):
            try:
                self._learn(key, record.value)
            except (orjson.JSONDecodeError, TypeError, ValueError, IndexError, KeyError):
                _log.warning("a record of state can't be read and is left out: %s", key)

    def _learn(self, key: str, value: bytes) -> None:
        kind, _, item_id = key.removeprefix(self._prefix).partition("/")
        said: Any = orjson.loads(value) if value else None
        match kind:
            case "order":
                self.orders.pop(item_id, None)
                if said is not None:
                    self.orders[item_id] = OrderState(said[0], said[1], tuple(said[2]), said[3])
                if len(self.orders) > MOST_ORDERS:
                    del self.orders[next(iter(self.orders))]
            case "visit":
                self.visits.pop(item_id, None)
                if said is not None:
                    self.visits[item_id] = said
            case "listing" if said is not None:
                self.listings[item_id] = Listing(said["rows"], said["floor_ms"], said["done"])

    def _key(self, kind: str, item_id: str) -> str:
        return f"{self._prefix}{kind}/{item_id}"

    def _home(self, key: str) -> int:
        return partition_of(key, self._buffer.partitions)


def _items(found: Mapping[str, Any] | None) -> Sequence[tuple[str, Any]]:
    return tuple(found.items()) if found else ()


def _of_order(state: OrderState) -> bytes:
    return orjson.dumps([state.digest, state.updated_ms, state.progress, state.over])


def _of_listing(listing: Listing) -> bytes:
    return orjson.dumps(
        {"rows": listing.rows, "floor_ms": listing.floor_ms, "done": dict(listing.done)}
    )
