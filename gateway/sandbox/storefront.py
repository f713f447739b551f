"""The demo storefront: the pages of ``static/demo/``, and the little back end that a shop has.

``products.json`` beside the pages is the shop's price list, for the pages and for the check-out:
``{"currency": "sek", "products": [{"sku": "…", "price": 4990, …}]}``, prices in minor units.
"""

import asyncio
import hashlib
import re
import secrets
import uuid
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic.alias_generators import to_camel

from gateway.sandbox.control import own_body, own_json, problems

SNIPPET_PLACE = "<!-- gateway snippet -->"
"""What a page holds where the collector's tag goes."""

MAX_BODY_BYTES = 65_536

_SAFE_PATH = re.compile(r"(?:[A-Za-z0-9_-]+/)*[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.[a-z0-9]+")
_CONTENT_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".webp": "image/webp",
    ".ico": "image/x-icon",
}
# Any constant will do: it only has to make one e-mail address the same contact every time.
_CONTACTS = uuid.UUID("5b0e52a5-8f35-4f0e-9f43-3b7c1f3a8d11")


@dataclass(frozen=True, slots=True, kw_only=True)
class StorefrontSandbox:
    """How the storefront is set up: the collector's tag, as a shop would paste it."""

    snippet: str = ""


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, alias_generator=to_camel, validate_by_name=False
    )


class _SignUp(_Part):
    email: Annotated[
        str,
        StringConstraints(
            strip_whitespace=True, max_length=100, pattern=r"^[^@\s]{1,64}@[^@\s.]+(\.[^@\s.]+)+$"
        ),
    ]
    name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]


class _Item(_Part):
    sku: Annotated[str, Field(min_length=1, max_length=100)]
    quantity: Annotated[int, Field(ge=1, le=999)]


class _CheckOut(_Part):
    items: Annotated[list[_Item], Field(min_length=1, max_length=100)]


class _Product(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    sku: str
    price: Annotated[int, Field(ge=0, le=10**9)]


class _PriceList(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    currency: Annotated[str, Field(pattern=r"^[a-z]{3}$")]
    products: list[_Product]


def create_storefront(settings: StorefrontSandbox, static_folder: Path) -> web.Application:
    """Make the storefront; ``static_folder`` holds its pages in ``demo/``."""
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    shop = _Shop(settings, static_folder / "demo")
    app.router.add_post("/api/sign-up", shop.sign_up)
    app.router.add_post("/api/check-out", shop.check_out)
    app.router.add_get("/{path:.*}", shop.page)
    return app


def contact_of(email: str) -> str:
    """Return the contact id of an e-mail address, which a shop would ask Voyado for."""
    return str(uuid.uuid5(_CONTACTS, email.strip().lower()))


def customer_of(email: str) -> str:
    """Return the shop's own customer id for an e-mail address."""
    return "u-" + hashlib.sha256(email.strip().lower().encode()).hexdigest()[:12]


Body = TypeVar("Body", bound=BaseModel)


class _Shop:
    def __init__(self, settings: StorefrontSandbox, folder: Path) -> None:
        self._snippet = settings.snippet
        self._folder = folder

    async def page(self, request: web.Request) -> web.Response:
        path = PurePosixPath(request.match_info["path"] or "index.html")
        content_type = _CONTENT_TYPES.get(path.suffix)
        if content_type is None or _SAFE_PATH.fullmatch(str(path)) is None:
            raise web.HTTPNotFound(text="There is no such page in this shop.\n")
        try:
            body = await asyncio.to_thread((self._folder / path).read_bytes)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise web.HTTPNotFound(text="There is no such page in this shop.\n") from None
        if content_type == "text/html":
            body = body.replace(SNIPPET_PLACE.encode(), self._snippet.encode())
        headers = {
            "Content-Type": f"{content_type}; charset=utf-8",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-cache",
        }
        return web.Response(body=body, headers=headers)

    async def sign_up(self, request: web.Request) -> web.Response:
        body = await _read(request, _SignUp)
        ids = {"customerId": customer_of(body.email), "contactId": contact_of(body.email)}
        return own_json(ids, status=201)

    async def check_out(self, request: web.Request) -> web.Response:
        body = await _read(request, _CheckOut)
        prices = await self._prices()
        price_of = {product.sku: product.price for product in prices.products}
        unknown = [place for place, item in enumerate(body.items) if item.sku not in price_of]
        if unknown:
            where = [f"items.{place}.sku" for place in unknown]
            raise _unusable([{"where": one, "problem": "not in this shop"} for one in where])
        amount = sum(price_of[item.sku] * item.quantity for item in body.items)
        invoice_id = f"o-{secrets.token_hex(6)}"
        order = {"invoiceId": invoice_id, "amount": amount, "currency": prices.currency}
        return own_json(order, status=201)

    async def _prices(self) -> _PriceList:
        try:
            text = await asyncio.to_thread((self._folder / "products.json").read_bytes)
            return _PriceList.model_validate_json(text)
        except (FileNotFoundError, ValidationError):
            message = "The shop has no usable price list: demo/products.json.\n"
            raise web.HTTPServiceUnavailable(text=message) from None


async def _read(request: web.Request, model: type[Body]) -> Body:
    try:
        return model.model_validate_json(await own_body(request))
    except ValidationError as error:
        raise _unusable(problems(error)) from None


def _unusable(found: list[dict[str, str]]) -> web.HTTPUnprocessableEntity:
    answer: Any = own_json({"problems": found})
    return web.HTTPUnprocessableEntity(text=answer.text, content_type="application/json")
