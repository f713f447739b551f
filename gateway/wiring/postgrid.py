"""Makes single calls of PostGrid's API for the commands, by a source of the settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

from gateway.adapters.clock import SystemClock
from gateway.adapters.http_client import AiohttpClient
from gateway.adapters.postgrid.answers import Answer, Order, Page, Thing
from gateway.adapters.postgrid.calls import CALLS, AnyCall, AnyListing, Listing, Method, Pager
from gateway.adapters.postgrid.client import ANSWER_BYTES, PostGridClient, Waiting
from gateway.adapters.postgrid.errors import KeyRefusedError, NoSuchThingError, PostGridError
from gateway.adapters.postgrid.kinds import kind_of
from gateway.adapters.postgrid.params import Paged, Params
from gateway.adapters.postgrid.settings import PostgridSettings
from gateway.adapters.postgrid.walk import Told

__all__ = [
    "CALLS",
    "Answer",
    "AnyCall",
    "AnyListing",
    "KeyRefusedError",
    "Listing",
    "NoSuchThingError",
    "Order",
    "Page",
    "Paged",
    "Params",
    "PostGridError",
    "PostgridSettings",
    "Thing",
    "Told",
    "Waiting",
    "carry_out",
    "each_row",
    "find_orders",
    "kind_of",
]


async def carry_out(
    settings: PostgridSettings, call: AnyCall, params: Params, waiting: Waiting
) -> Answer:
    """Make a call of the table. Raises PostGridError."""
    async with _client(settings, waiting) as client:
        return await _bound(client, call)(params)


async def each_row(
    settings: PostgridSettings,
    listing: AnyListing,
    params: Paged,
    told: Told,
    waiting: Waiting,
) -> AsyncIterator[Thing]:
    """Yield every row of a listing. Raises PostGridError."""
    async with _client(settings, waiting) as client:
        pager = cast("Pager[Paged, Thing]", _bound(client, listing))
        async for row in pager.each(params, told):
            yield row


async def find_orders(
    settings: PostgridSettings, order_ids: tuple[str, ...], waiting: Waiting
) -> AsyncIterator[tuple[str, Order | NoSuchThingError]]:
    """Yield each order, or that there is none under that id. Raises any other PostGridError."""
    async with _client(settings, waiting) as client:
        for order_id in order_ids:
            try:
                yield order_id, await client.find_order(order_id)
            except NoSuchThingError as error:
                yield order_id, error


@asynccontextmanager
async def _client(settings: PostgridSettings, waiting: Waiting) -> AsyncIterator[PostGridClient]:
    http = AiohttpClient(connections=1, answer_bytes=ANSWER_BYTES)
    await http.start()
    try:
        yield PostGridClient(settings, http, SystemClock(), waiting=waiting)
    finally:
        await http.stop()


def _bound(client: PostGridClient, call: AnyCall) -> Method[Params, Answer]:
    method: Method[Params, Answer] = getattr(getattr(client, call.group), call.name)
    return method
