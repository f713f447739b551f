"""A strict stand-in of Voyado Engage's tracking API (voyado.md, sections 0 to 3).

Known: the paths, the models, the headers, the empty 200, "last ``time`` wins" for carts, 429 above
200 requests a second, and the 500 for a missing content type. Error bodies, the order of the checks
and the fate of a batch with one bad item are not known; comments here say where a choice was made.
"""

import hmac
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, TypeVar

from aiohttp import web
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from gateway.sandbox.control import Control, Refused, problems
from gateway.sandbox.record import RateLimit, Received, forget_oldest, wall_clock_ms

# Stricter than known: no limit of a batch or a body is documented for tracking; other v2
# bulk endpoints say 1000 rows.
MAX_BATCH_ITEMS = 1_000
MAX_BODY_BYTES = 16 * 1_048_576

_SECOND_MS = 1_000
_USER_AGENT = re.compile(r"[\w!#$%&'*+.^`|~-]+/[\w!#$%&'*+.^`|~-]+( .*)?", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?(Z|[+-]\d\d:\d\d)", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class VoyadoSandbox:
    """How the stand-in is set up; ``requests_per_second=None`` switches the limit off.

    ``feeds`` are the languages that a product feed is configured for. Stricter than known: they are
    compared as they are written.
    """

    api_key: str = "sandbox-voyado-key"
    requests_per_second: int | None = 200
    feeds: tuple[str, ...] = ("sv-SE", "en-GB")
    now_ms: Callable[[], int] = wall_clock_ms


def _zoned(text: str) -> str:
    """Refuse a time without a zone designator (the documentation asks for one)."""
    if _TIME.fullmatch(text) is None:
        message = "must be ISO 8601 with seconds and a time zone designator"
        raise ValueError(message)
    datetime.fromisoformat(text)
    return text


Text = Annotated[str, Field(min_length=1)]
Time = Annotated[str, AfterValidator(_zoned)]


class _Strict(BaseModel):
    # Stricter than known: names in any other case, unknown fields, nulls, numbers as text and
    # empty ids are refused. The real service probably takes some of them (voyado.md, section 1).
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, alias_generator=to_camel, validate_by_name=False
    )


class CartItem(_Strict):
    """CartItemApiModel. Stricter than known: both fields required, a quantity at least 1."""

    sku: Text
    quantity: int = Field(ge=1, le=2**63 - 1)


class Cart(_Strict):
    """CartApiModel.

    Stricter than known: the schema requires nothing at all; here a cart needs its reference, its
    time and its items (``[]`` empties it; what leaving them out means is not known).
    """

    cart_reference: Text
    time: Time
    items: tuple[CartItem, ...] = Field(strict=False)
    contact_id: Text = ""
    language: Text = ""
    url: Text = ""


class Utm(_Strict):
    """One pair of ``utm``."""

    key: Text
    value: str


class ProductView(_Strict):
    """ProductViewApiModel: only ``itemId`` and ``contactId`` are required, as documented."""

    item_id: Text
    contact_id: Text
    category: str = ""
    time: Time = ""
    session_id: str = ""
    new_session: bool = False
    language: str = ""
    url: str = ""
    external_referrer: str = ""
    utm: tuple[Utm, ...] = Field(default=(), strict=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CartUpdate:
    """One cart as received. ``went_back``: older than what was held when it arrived."""

    number: int
    received_ms: int
    cart: Cart
    went_back: bool
    took_effect: bool
    filtered_out: str | None

    def as_json(self) -> dict[str, Any]:
        """Show it flat, the cart as it was sent."""
        return {
            "number": self.number,
            "receivedMs": self.received_ms,
            "tookEffect": self.took_effect,
            "wentBack": self.went_back,
            "filteredOut": self.filtered_out,
            **_as_sent(self.cart),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewReceived:
    """One product view as received; nothing is deduplicated, for the real one has no event id."""

    number: int
    received_ms: int
    view: ProductView
    filtered_out: str | None

    def as_json(self) -> dict[str, Any]:
        """Show it flat, the view as it was sent."""
        return {
            "number": self.number,
            "receivedMs": self.received_ms,
            "filteredOut": self.filtered_out,
            **_as_sent(self.view),
        }


class VoyadoState:
    """What the stand-in holds."""

    def __init__(self, settings: VoyadoSandbox) -> None:
        self.carts: dict[str, CartUpdate] = {}
        """The latest state of each cart, by its reference; an emptied cart stays, empty."""
        self.updates: Received[CartUpdate] = Received()
        """Every cart update, in order of arrival."""
        self.views: Received[ViewReceived] = Received()
        self.rate = RateLimit(settings.requests_per_second, _SECOND_MS, settings.now_ms)
        self._now_ms = settings.now_ms
        self._feeds = settings.feeds

    def _filtered_out(self, contact_id: str, language: str) -> str | None:
        """Say why no reminder would ever come of it, though it was taken (voyado.md 5)."""
        if not contact_id:
            return "no contact"
        return None if language in self._feeds else "no product feed in its language"

    def register_carts(self, carts: Sequence[Cart]) -> None:
        """Take one request's carts.

        They are processed by update time, so the order within one request does not count: an
        update went back only if an earlier request had brought a newer one.
        """
        held = {cart.cart_reference: self.carts.get(cart.cart_reference) for cart in carts}
        newest = {cart.cart_reference: cart for cart in sorted(carts, key=_instant)}
        for cart in carts:
            before = held[cart.cart_reference]
            went_back = before is not None and _instant(cart) < _instant(before.cart)
            update = CartUpdate(
                number=self.updates.total + 1,
                received_ms=self._now_ms(),
                cart=cart,
                went_back=went_back,
                took_effect=not went_back and newest[cart.cart_reference] is cart,
                filtered_out=(
                    self._filtered_out(cart.contact_id, cart.language) if cart.items else None
                ),
            )
            self.updates.add(update)
            if update.took_effect:
                self.carts[cart.cart_reference] = update
        forget_oldest(self.carts)

    def register_views(self, views: Sequence[ProductView]) -> None:
        """Append views, twins and all."""
        for view in views:
            received = ViewReceived(
                number=self.views.total + 1,
                received_ms=self._now_ms(),
                view=view,
                filtered_out=self._filtered_out(view.contact_id, view.language),
            )
            self.views.add(received)

    def as_json(self, last: int | None) -> dict[str, Any]:
        """Show everything, of lists the ``last`` so many if a number is given."""
        start = -last if last else None
        shown = list(self.carts)[start:]
        return {
            "totals": {
                "carts": len(self.carts),
                "updates": self.updates.total,
                "views": self.views.total,
            },
            "carts": {reference: self.carts[reference].as_json() for reference in shown},
            "updates": [update.as_json() for update in self.updates[start:]],
            "views": [view.as_json() for view in self.views[start:]],
        }

    def reset(self) -> None:
        """Forget everything."""
        self.carts.clear()
        self.updates.reset()
        self.views.reset()
        self.rate.reset()


VOYADO = web.AppKey("voyado", VoyadoState)
"""What a Voyado stand-in holds."""


def create_voyado(settings: VoyadoSandbox, static_folder: Path) -> web.Application:
    """Make the stand-in; ``static_folder`` holds the page in ``sandbox/``."""
    state = VoyadoState(settings)
    control = Control("Voyado", state, voyado_error, settings.now_ms)
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[control.middleware])
    service = _Service(settings, state)
    app.router.add_post("/api/v2/tracking/carts", service.cart)
    app.router.add_post("/api/v2/tracking/carts/batch", service.carts)
    app.router.add_post("/api/v2/tracking/productview", service.view)
    app.router.add_post("/api/v2/tracking/productviews", service.views)
    control.attach(app, static_folder)
    app[VOYADO] = state
    return app


def voyado_error(status: int, message: str) -> web.Response:
    """Make an error answer.

    Only the sentence of the 500 is documented; the envelope is not known, and ``message`` is what
    ASP.NET Web API, which the real service is, uses by default.
    """
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        message = "An error has occurred"
    return web.json_response({"message": message}, status=status)


Model = TypeVar("Model")
_CART = TypeAdapter(Cart)
_CARTS: TypeAdapter[tuple[Cart, ...]] = TypeAdapter(
    Annotated[tuple[Cart, ...], Field(max_length=MAX_BATCH_ITEMS)]
)
_VIEW = TypeAdapter(ProductView)
_VIEWS: TypeAdapter[tuple[ProductView, ...]] = TypeAdapter(
    Annotated[tuple[ProductView, ...], Field(max_length=MAX_BATCH_ITEMS)]
)


class _Service:
    def __init__(self, settings: VoyadoSandbox, state: VoyadoState) -> None:
        self._key = settings.api_key.encode()
        self._state = state

    async def cart(self, request: web.Request) -> web.Response:
        self._state.register_carts([await self._read(request, _CART)])
        return web.Response()

    async def carts(self, request: web.Request) -> web.Response:
        carts = await self._read(request, _CARTS)
        self._state.register_carts(carts)
        return web.Response()

    async def view(self, request: web.Request) -> web.Response:
        self._state.register_views([await self._read(request, _VIEW)])
        return web.Response()

    async def views(self, request: web.Request) -> web.Response:
        views = await self._read(request, _VIEWS)
        self._state.register_views(views)
        return web.Response()

    async def _read(self, request: web.Request, model: TypeAdapter[Model]) -> Model:
        """Check a request and return its body. The order of the checks is not known."""
        self._check_key(request)
        # Stricter than known: the header "must be used", but what happens without is not said.
        if _USER_AGENT.fullmatch(request.headers.get("User-Agent", "")) is None:
            raise _refused(400, "Send a User-Agent of the form Product/Version.")
        if request.content_type != "application/json":
            raise _refused(500, "")
        if not self._state.rate.admit():
            raise _refused(429, "Too many requests.")
        try:
            # Stricter than known: a batch with one bad item is refused whole.
            return model.validate_json(await request.read())
        except ValidationError as error:
            first = problems(error)[0]
            raise _refused(400, f"{first['where']}: {first['problem']}") from None

    def _check_key(self, request: web.Request) -> None:
        sent = request.headers.get("apikey", "").encode(errors="surrogateescape")
        if not hmac.compare_digest(sent, self._key):
            raise _refused(401, "Send a valid API key in the header apikey.")


def _refused(status: int, message: str) -> Refused:
    return Refused(voyado_error(status, message))


def _as_sent(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json", by_alias=True, exclude_unset=True)


def _instant(cart: Cart) -> datetime:
    return datetime.fromisoformat(cart.time)
