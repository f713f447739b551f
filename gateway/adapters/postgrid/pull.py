"""Polling: what no webhook brought. Run by the console role, which has one replica.

A round reads on in the listing of events (what happened while nobody listened), then the visits of
every tracker that has new ones, then the orders on which something may still change. How far it
came is remembered after what it found was published: a crash in between brings that again, and
the window tells copies.
"""

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Generic, Protocol

from gateway.adapters.postgrid.answers import Event as Happened
from gateway.adapters.postgrid.answers import Item, Order, Page, Tracker, Visit
from gateway.adapters.postgrid.client import PostGridClient
from gateway.adapters.postgrid.errors import NoSuchThingError, PostGridError
from gateway.adapters.postgrid.kinds import KIND_OF_OBJECT
from gateway.adapters.postgrid.memory import Listing
from gateway.adapters.postgrid.params import (
    EventsOfTypes,
    OfId,
    OrdersSearched,
    Searched,
    SearchedOfId,
)
from gateway.adapters.postgrid.source import OrderAwayError, PostgridSource
from gateway.adapters.postgrid.translate import (
    ORDER_KINDS,
    OrderSeen,
    UnusableError,
    VisitSeen,
    instant_ms,
    visit_seen,
)
from gateway.adapters.postgrid.walk import LIMIT, OVERLAP, walk
from gateway.metrics import POLLED_EVENTS, POLLS
from gateway.model.retry import backoff_seconds
from gateway.ports import BufferFailedError

_log = logging.getLogger(__name__)

OVERLAP_MS = 3_600_000
"""A row may show up this much later than it says that it was created."""
MOST_DONE = 2_000
"""Ids remembered of one listing; of more, only the newest."""
HOLD_MS = 86_400_000
"""A visit waits this long for an order that can't be got, then it goes without."""
BEGIN_MS = 7 * 86_400_000
"""How far back the listing of events is read the first time."""
SETTLED_MS = 14 * 86_400_000
"""After it was completed or cancelled, an order's scans may come for some days."""
OLD_MS = 60 * 86_400_000
"""An order of which nothing was heard for so long is not asked for any more."""
FORGET_MS = 90 * 86_400_000
"""Longer than `OLD_MS`, or it would be news again."""
SWEEP_SHARE = 10
"""Orders are listed again when this many times as long as it took has passed."""
ANNOUNCED_SECONDS = 5.0
"""From a webhook that announces a visit to the round that finds it."""
EVENTS_LISTING = "events"
ORDER_EVENTS = tuple(
    f"{each}.{what}" for each in sorted(ORDER_KINDS) for what in ("created", "updated")
)
"""Those of return envelopes too, of which there is no listing but by envelope."""


class Fetch(Protocol[Item]):
    """Gets a page of a listing."""

    async def __call__(self, skip: int, limit: int) -> Page[Item]:
        """Return the page. Raises PostGridError."""


class Puller:
    """Polls one account."""

    def __init__(self, name: str, client: PostGridClient, source: PostgridSource) -> None:
        self._name = name
        self._client = client
        self._source = source
        self._memory = source.memory
        self._sweep_at = 0.0
        self._missing_kinds: set[str] = set()

    async def run(self, ending: asyncio.Event) -> None:
        """Poll every `poll_seconds` until `ending`; sooner when a webhook announces a visit."""
        failures = 0
        while not ending.is_set():
            self._source.announced.clear()
            try:
                await self.poll()
            except (PostGridError, BufferFailedError) as error:
                failures += 1
                POLLS.labels(self._name, "failed").inc()
                _log.warning("%s: polling did not come to its end: %s", self._name, error)
            else:
                failures = 0
                POLLS.labels(self._name, "done").inc()
            await self._wait(ending, failures)

    async def _wait(self, ending: asyncio.Event, failures: int) -> None:
        seconds = self._source.settings.poll_seconds
        if failures:
            seconds = min(seconds, backoff_seconds(failures, random.random()))  # noqa: S311 - jitter
        waiting = [asyncio.ensure_future(each.wait()) for each in (ending, self._source.announced)]
        try:
            await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if self._source.announced.is_set():  # others may follow at once: one round for all
                await asyncio.wait(waiting[:1], timeout=min(seconds, ANNOUNCED_SECONDS))
        finally:
            for each in waiting:
                each.cancel()

    async def poll(self) -> None:
        """Make one round. Raises PostGridError, BufferFailedError."""
        await self._memory.refresh_all()
        await self._events()
        async for tracker in self._trackers():
            await self._visits(tracker)
        now = asyncio.get_running_loop().time()
        if now >= self._sweep_at:
            for kind in KIND_OF_OBJECT.values():
                await self._orders(kind)
            await self._forget()
            took = asyncio.get_running_loop().time() - now
            self._sweep_at = now + SWEEP_SHARE * took

    # Events: orders as they were while nobody listened.

    async def _events(self) -> None:
        begin = Listing(floor_ms=self._now_ms() - BEGIN_MS)
        known = self._memory.listings.get(EVENTS_LISTING, begin)
        reading = Reading(known)

        async def page(skip: int, limit: int) -> Page[Happened]:
            asked = EventsOfTypes(skip=skip, limit=limit, type=ORDER_EVENTS)
            return await self._client.events.list(asked)

        def happened_ms(event: Happened) -> int:
            return instant_ms(event.created_at, self._now_ms())

        fresh: list[OrderSeen] = []
        async with aclosing(read(page, reading, happened_ms)) as rows:
            async for event in rows:
                fresh += self._orders_seen([event.data or {}], event.type.partition(".")[0])
                if len(fresh) >= LIMIT:
                    await self._bring_orders(fresh)
                    fresh = []
        await self._bring_orders(fresh)
        if reading.found:
            await self._memory.keep(listings={EVENTS_LISTING: reading.listing()})

    # Visits.

    async def _trackers(self) -> AsyncIterator[Tracker]:
        if not self._source.settings.trackers:
            async for tracker in self._client.trackers.list.each(Searched()):
                yield tracker
        for tracker_id in self._source.settings.trackers:
            try:
                yield await self._client.trackers.get(OfId(id=tracker_id))
            except NoSuchThingError:
                _log.warning("%s: there is no tracker %s", self._name, tracker_id)

    async def _visits(self, tracker: Tracker) -> None:
        known = self._memory.listings.get(tracker.id, Listing())
        if tracker.visit_count == known.rows:
            return
        reading = Reading(known)

        async def page(skip: int, limit: int) -> Page[Visit]:
            asked = SearchedOfId(id=tracker.id, skip=skip, limit=limit)
            return await self._client.visits.list(asked)

        def visited_ms(visit: Visit) -> int:
            return instant_ms(visit.created_at, self._now_ms())

        fresh: list[dict[str, Any]] = []
        try:
            async with aclosing(read(page, reading, visited_ms)) as rows:
                async for visit in rows:
                    event = await self._told(visit, reading)
                    fresh += [event] if event else []
                    if len(fresh) >= LIMIT:
                        await self._bring_visits(fresh)
                        fresh = []
        except NoSuchThingError:  # deleted while we were reading
            pass
        await self._bring_visits(fresh)
        await self._memory.keep(listings={tracker.id: reading.listing()})
        hooked = [each for each in reading.found if each in self._memory.visits]
        await self._memory.forget(visits=hooked)

    async def _told(self, visit: Visit, reading: "Reading") -> dict[str, Any] | None:
        """Return the event of a visit with what its order tells; None: not new, or not yet."""
        if visit.id in self._memory.visits:
            return None
        try:
            seen = visit_seen(visit.wire(), self._now_ms())
        except UnusableError as error:
            _log.warning("%s: %s is left out: %s", self._name, visit.id, error)
            return None
        try:
            return await self._source.told_visit(seen)
        except OrderAwayError as error:
            return self._without_order(seen, reading, error)

    def _without_order(
        self, seen: VisitSeen, reading: "Reading", error: OrderAwayError
    ) -> dict[str, Any] | None:
        if self._now_ms() - seen.created_ms > HOLD_MS:
            _log.warning("%s: visit %s goes without its order", self._name, seen.visit_id)
            return seen.event
        _log.warning("%s: visit %s waits for its order: %s", self._name, seen.visit_id, error)
        reading.hold(seen.visit_id)
        return None

    async def _bring_visits(self, events: Sequence[dict[str, Any]]) -> None:
        await self._source.bring_visits(events)
        POLLED_EVENTS.labels(self._name).inc(len(events))

    # Orders.

    async def _orders(self, kind: str) -> None:
        """List a kind's orders, as far as something may still change on them."""

        async def page(skip: int, limit: int) -> Page[Order]:
            return await self._client.orders.list(OrdersSearched(kind=kind, skip=skip, limit=limit))

        def created_ms(order: Order) -> int:
            return instant_ms(order.created_at, self._now_ms())

        fresh: list[OrderSeen] = []
        reading = Reading(Listing(), self._is_settled)
        try:
            async with aclosing(read(page, reading, created_ms)) as rows:
                async for order in rows:
                    fresh += self._orders_seen([order.wire()], None)
                    if len(fresh) >= LIMIT:
                        await self._bring_orders(fresh)
                        fresh = []
        except NoSuchThingError:
            if kind not in self._missing_kinds:
                _log.info("%s: this account has no %s", self._name, kind)
            self._missing_kinds.add(kind)
        await self._bring_orders(fresh)

    def _is_settled(self, order_id: str, created_ms: int) -> bool:
        known = self._memory.orders.get(order_id)
        now_ms = self._now_ms()
        if known is None:
            return created_ms < now_ms - OLD_MS
        return known.updated_ms < now_ms - (SETTLED_MS if known.over else OLD_MS)

    def _orders_seen(
        self, orders: Sequence[Mapping[str, Any]], kind: str | None
    ) -> list[OrderSeen]:
        seen = []
        for order in orders:
            try:
                seen.append(self._source.order_seen(order, kind))
            except UnusableError as error:
                _log.warning("%s: left out: %s", self._name, error)
        return seen

    async def _bring_orders(self, orders: Sequence[OrderSeen]) -> None:
        old_ms = self._now_ms() - OLD_MS
        brought = await self._source.bring_orders(orders, old_ms=old_ms)
        POLLED_EVENTS.labels(self._name).inc(brought)

    async def _forget(self) -> None:
        before_ms = self._now_ms() - FORGET_MS
        orders = self._memory.orders.items()
        await self._memory.forget([each for each, s in orders if s.updated_ms < before_ms][:1000])

    def _now_ms(self) -> int:
        return self._source.clock.now_ms()


class Reading:
    """One reading of a listing: what was found, and where the next one may begin."""

    def __init__(self, known: Listing, is_done: Callable[[str, int], bool] | None = None) -> None:
        self.found: dict[str, int] = {}
        """When each row was created, by its id."""
        self.count = 0
        self.known = known
        self.is_done = is_done or known.holds
        self._held: set[str] = set()

    def hold(self, item_id: str) -> None:
        """Leave a row for the next time."""
        self._held.add(item_id)

    def listing(self) -> Listing:
        """Return what to remember, once all that was found and not held is durable."""
        done = {**self.known.done, **self.found}
        floor_ms = max(self.known.floor_ms, max(done.values(), default=0) - OVERLAP_MS)
        newest = sorted(done.values(), reverse=True)
        if len(newest) > MOST_DONE:
            floor_ms = max(floor_ms, newest[MOST_DONE - 1])
        floor_ms = min([floor_ms, *(self.found[each] for each in self._held)])
        kept = {
            each: created_ms
            for each, created_ms in done.items()
            if created_ms >= floor_ms and each not in self._held
        }
        return Listing(-1 if self._held else self.count, floor_ms, kept)


async def read(
    fetch: Fetch[Item],
    reading: Reading,
    created_ms: Callable[[Item], int],
) -> AsyncGenerator[Item]:
    """Yield the rows that are not done, each once.

    In which order PostGrid lists is not published. Where the first page is newest first, reading
    ends when a whole page's worth of rows is done; where it is oldest first, it begins shortly
    before the end of last time; else the whole listing is read.
    """
    first = await fetch(0, LIMIT)
    reading.count = first.total_count  # what came later may have been passed over
    newest_first, shift = _direction([created_ms(each) for each in first.data]), 0
    if newest_first is False and first.total_count > LIMIT:
        shift = max(0, min(reading.known.rows, first.total_count) - OVERLAP)
    pages = _Pages(fetch, first if not shift else None, shift)
    row_of_done = 0
    async with aclosing(walk(pages.fetch)) as rows:
        async for row in rows:
            at_ms = created_ms(row)
            if reading.is_done(row.id, at_ms):
                row_of_done += 1
                reading.found.setdefault(row.id, at_ms)
            else:
                row_of_done = 0
                reading.found[row.id] = at_ms
                yield row
            if newest_first and row_of_done >= LIMIT:
                return


class _Pages(Generic[Item]):
    """A listing from `shift` on; its first page may have been fetched before."""

    def __init__(
        self,
        fetch: Fetch[Item],
        first: Page[Item] | None,
        shift: int,
    ) -> None:
        self._fetch = fetch
        self._first = first
        self._shift = shift

    async def fetch(self, skip: int, limit: int) -> Page[Item]:
        """Return a page, with a count that begins at `shift`."""
        page, self._first = self._first, None
        if page is None or skip:
            page = await self._fetch(skip + self._shift, limit)
        return page.model_copy(update={"total_count": page.total_count - self._shift})


def _direction(created: Sequence[int]) -> bool | None:
    """Return whether rows are newest first; None where they are in no order."""
    if list(created) == sorted(created, reverse=True):
        return True
    return False if list(created) == sorted(created) else None
