"""The source: takes what webhooks and polling find, and brings to ingest what is new of it."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Protocol
from zlib import crc32

from gateway.adapters.postgrid.client import PostGridClient
from gateway.adapters.postgrid.errors import KeyRefusedError, NoSuchThingError, PostGridError
from gateway.adapters.postgrid.memory import Listing, Memory
from gateway.adapters.postgrid.receive import (
    SIGNATURE_HEADER,
    VISITED,
    Message,
    SignatureError,
    StaleError,
    UnreadableError,
    open_message,
)
from gateway.adapters.postgrid.settings import PostgridSettings
from gateway.adapters.postgrid.translate import (
    OrderSeen,
    UnusableError,
    VisitSeen,
    order_seen,
    told_by,
    visit_seen,
    with_order,
)
from gateway.ingest import Ingest, Refused
from gateway.ports import BufferFailedError, BufferUnavailableError, Clock, Hook

_log = logging.getLogger(__name__)

SHARDS = 64
"""Locks, so that no two take the same order at once."""
MOST_TOLD = 500
"""Orders whose metadata is held, for the visits that may follow."""
FETCH_SECONDS = 5.0
"""How long a webhook waits for the order of its visit: PostGrid's own patience is not published."""


class OrderAwayError(Exception):
    """An order can't be got just now, but perhaps later; the text says why."""


class Orders(Protocol):
    """Where orders are got from."""

    async def order(self, order_id: str) -> Mapping[str, Any] | None:
        """Return an order as PostGrid tells it; None: there is none, or it may not be seen.

        Raises OrderAwayError.
        """


class ClientOrders:
    """The `Orders` that the client gets."""

    def __init__(self, client: PostGridClient) -> None:
        self._client = client

    async def order(self, order_id: str) -> Mapping[str, Any] | None:
        """Return an order, whatever its kind; see `Orders`."""
        try:
            found = await self._client.find_order(order_id)
        except (NoSuchThingError, KeyRefusedError):
            return None
        except PostGridError as error:
            raise OrderAwayError(str(error)) from error
        return found.wire()


class PostgridSource:
    """The `Source` for one PostGrid account, and the way in for what is polled."""

    def __init__(
        self,
        settings: PostgridSettings,
        memory: Memory,
        ingest: Ingest,
        orders: Orders,
        clock: Clock,
    ) -> None:
        self.settings = settings
        self.memory = memory
        self.clock = clock
        self.announced = asyncio.Event()
        """Set when PostGrid spoke of a visit without telling it: polling finds it."""
        self._ingest = ingest
        self._orders = orders
        self._secrets = [each.get_secret_value().encode() for each in settings.webhook_secrets]
        self._told: OrderedDict[str, Mapping[str, Any]] = OrderedDict()
        self._locks = [asyncio.Lock() for _ in range(SHARDS)]

    async def receive(self, body: bytes, headers: Mapping[str, str]) -> Hook:
        """Take a webhook in; see the port."""
        now_ms = self.clock.now_ms()
        age_ms = int(self.settings.webhook_age_seconds * 1000)
        signature = headers.get(SIGNATURE_HEADER)
        try:
            message = open_message(body, signature, self._secrets, now_ms, age_ms)
            return await self._take(message)
        except SignatureError:
            return Hook.WRONG_SIGNATURE
        except StaleError:
            return Hook.STALE
        except (UnreadableError, UnusableError) as error:
            _log.warning("a webhook for %s can't be used: %s", self.settings.site, error)
            return Hook.UNREADABLE
        except (OrderAwayError, BufferFailedError) as error:
            _log.warning("a webhook for %s is to be sent again: %s", self.settings.site, error)
            return Hook.UNAVAILABLE

    async def _take(self, message: Message) -> Hook:
        if message.order_kind is not None:
            brought = await self.bring_orders([self.order_seen(message.data, message.order_kind)])
        elif message.type != VISITED:
            return Hook.UNUSED
        elif "orderID" not in message.data:
            return self._announce()
        else:
            brought = await self._take_visit(visit_seen(message.data, self.clock.now_ms()))
        return Hook.TAKEN if brought else Hook.KNOWN

    def _announce(self) -> Hook:
        """Let polling find the visit: this is its tracker, which may be told instead.

        Which of the two PostGrid tells is not published (postgrid.md, 4).
        """
        if not self.settings.poll_seconds:
            raise UnusableError("a tracker in place of its visit, which only polling would find")
        self.announced.set()
        return Hook.UNUSED

    async def _take_visit(self, visit: VisitSeen) -> int:
        """Bring a visit, and note it for the polling, which may come upon it after the window."""
        await self.memory.refresh("visit", visit.visit_id)
        await self.memory.refresh("listing", visit.tracker_id)
        polled = self.memory.listings.get(visit.tracker_id, Listing())
        if visit.visit_id in self.memory.visits or polled.holds(visit.visit_id, visit.created_ms):
            return 0
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                event = await self.told_visit(visit)
        except TimeoutError:
            raise OrderAwayError("PostGrid did not answer in time") from None
        await self.bring_visits([event])
        if self._is_polled(visit):
            await self.memory.keep(visits={visit.visit_id: visit.tracker_id})
        return 1

    def _is_polled(self, visit: VisitSeen) -> bool:
        trackers = self.settings.trackers
        return self.settings.poll_seconds > 0 and (not trackers or visit.tracker_id in trackers)

    def order_seen(self, order: Mapping[str, Any], kind: str | None = None) -> OrderSeen:
        """Read an order, and hold what it tells of its visits. Raises UnusableError."""
        seen = order_seen(order, kind, self.settings.ids, self.clock.now_ms())
        if seen.left_out:
            names = ", ".join(seen.left_out)
            _log.warning("order %s: %s left out, over the limits", seen.order_id, names)
        self._hold(seen.order_id, order)
        return seen

    async def told_visit(self, visit: VisitSeen) -> dict[str, Any]:
        """Return the visit's event with what its order tells. Raises OrderAwayError."""
        told = self._told.get(visit.order_id)
        if told is None:
            order = await self._orders.order(visit.order_id)
            if order is None:
                _log.warning("visit %s: its order can't be seen", visit.visit_id)
                return visit.event
            told = self._hold(visit.order_id, order)
        return with_order(visit, told, self.settings.ids)

    def _hold(self, order_id: str, order: Mapping[str, Any]) -> Mapping[str, Any]:
        told = {"metadata": order.get("metadata")} if told_by(order, {}) else {}
        self._told[order_id] = told
        self._told.move_to_end(order_id)
        if len(self._told) > MOST_TOLD:
            self._told.popitem(last=False)
        return told

    async def bring_orders(self, orders: Sequence[OrderSeen], *, old_ms: int = 0) -> int:
        """Bring the states that are news, then remember them; return how many.

        Of an order that is not remembered, one from before `old_ms` is none.
        Raises BufferFailedError; what was brought by then is brought again, and is a copy.
        """
        async with self._alone(orders):
            for each in orders:
                await self.memory.refresh("order", each.order_id)
            news = self._news(orders, old_ms)
            await self._bring([each.event for each in news])
            await self.memory.keep(orders={each.order_id: each.state for each in news})
        return len(news)

    def _news(self, orders: Sequence[OrderSeen], old_ms: int) -> list[OrderSeen]:
        latest = {each.order_id: self.memory.orders.get(each.order_id) for each in orders}
        news = []
        for each in sorted(orders, key=lambda each: (each.state.updated_ms, each.state.progress)):
            known = latest[each.order_id]
            if each.state.is_news(known) and (known or each.state.updated_ms >= old_ms):
                latest[each.order_id] = each.state
                news.append(each)
        return news

    async def bring_visits(self, events: Sequence[dict[str, Any]]) -> None:
        """Bring visits. Raises BufferFailedError."""
        await self._bring(events)

    async def _bring(self, events: Sequence[dict[str, Any]]) -> None:
        if events:
            came = await self._ingest.bring(self.settings.site, events)
            if isinstance(came, Refused):
                raise BufferUnavailableError(came.detail)

    @asynccontextmanager
    async def _alone(self, orders: Sequence[OrderSeen]) -> AsyncIterator[None]:
        """Wait until nobody else takes one of these; in one order, so that none waits for ever."""
        async with AsyncExitStack() as stack:
            for shard in sorted({crc32(each.order_id.encode()) % SHARDS for each in orders}):
                await stack.enter_async_context(self._locks[shard])
            yield
