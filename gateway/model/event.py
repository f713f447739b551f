"""The wire's types: what a posted event, and the context of a request, may hold.

They are TypedDicts that pydantic checks, so that a checked event is a plain dict with just the
keys that were given: nothing is cut or coerced, only ids, names and e-mails are trimmed. `null`
means none. `time` is known here to be text; who checks an event reads it once (`instant`).
"""

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Required, get_args

import orjson
from pydantic import AfterValidator, ConfigDict, Field, StringConstraints, TypeAdapter, with_config
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict  # pydantic needs it below Python 3.12

MAX_DEPTH = 16
"""How deep a request's JSON may nest, the request itself being the first level."""
METADATA_LEVEL = 4
"""The request, its `events`, an event, its `metadata`."""
EVENT_BYTES = 64 * 1024
CONTEXT_BYTES = 16 * 1024
METADATA_CHARACTERS = 10_000

_EMAIL = re.compile(r"[A-Za-z0-9_'+\-.]*[A-Za-z0-9_+-]@(?:[A-Za-z0-9][A-Za-z0-9-]*\.)+[A-Za-z]{2,}")


def _email(text: str) -> str:
    """Refuse what Dub refuses: zod's expression for an address, which is narrower than RFC 5322."""
    if text[0] == "." or ".." in text or not _EMAIL.fullmatch(text):
        raise PydanticCustomError("email", "not an e-mail address")
    return text


def deeper_than(value: object, levels: int) -> bool:
    """Whether lists and objects nest more than `levels` deep, `value` itself being the first."""
    floor = [value]
    for _ in range(levels + 1):
        nested = [each for each in floor if isinstance(each, dict | list)]
        if not nested:
            return False
        floor = [inner for each in nested for inner in _inside(each)]
    return True


def _inside(value: dict[str, object] | list[object]) -> Iterable[object]:
    return value.values() if isinstance(value, dict) else value


def _metadata(value: dict[str, Any]) -> dict[str, Any]:
    """Hold the limits: 10,000 characters as Dub counts them (UTF-16 units), and the depth."""
    levels = MAX_DEPTH - METADATA_LEVEL + 1
    try:
        compact = orjson.dumps(value)
    except orjson.JSONEncodeError:  # beyond the 254 levels that orjson writes
        raise PydanticCustomError("too_deep", "nests too deep") from None
    if compact.count(b"{") + compact.count(b"[") > levels and deeper_than(value, levels):
        raise PydanticCustomError("too_deep", "nests too deep")
    if len(compact) > METADATA_CHARACTERS:
        characters = len(compact.decode().encode("utf-16-le")) // 2
        if characters > METADATA_CHARACTERS:
            raise PydanticCustomError("metadata_too_long", "too long", {"characters": characters})
    return value


def _trimmed(longest: int, shortest: int = 1) -> StringConstraints:
    return StringConstraints(strip_whitespace=True, min_length=shortest, max_length=longest)


Id64 = Annotated[str, _trimmed(64)]
Id100 = Annotated[str, _trimmed(100)]
EventId = Annotated[
    str, StringConstraints(strip_whitespace=True, max_length=64, pattern=r"^[!-~]+$")
]
Time = Annotated[
    str, StringConstraints(max_length=64), Field(json_schema_extra={"format": "date-time"})
]
Url = Annotated[str, StringConstraints(max_length=2048)]
Text500 = Annotated[str, StringConstraints(max_length=500)]
EventName = Annotated[str, _trimmed(255)]
Email = Annotated[
    str, _trimmed(100), AfterValidator(_email), Field(json_schema_extra={"format": "email"})
]
AdClickIds = Annotated[
    dict[
        Annotated[str, StringConstraints(min_length=1, max_length=32)],
        Annotated[str, StringConstraints(max_length=500)],
    ],
    Field(max_length=10),
]
Utm = Annotated[
    dict[
        Annotated[str, StringConstraints(max_length=32, pattern="^utm_.")],
        Annotated[str, StringConstraints(max_length=255)],
    ],
    # The names' pattern alone would leave others undescribed.
    Field(max_length=10, json_schema_extra={"additionalProperties": False}),
]
Metadata = Annotated[dict[str, Any], AfterValidator(_metadata)]
Processor = Literal[
    "stripe",
    "shopify",
    "polar",
    "paddle",
    "apple",
    "revenuecat",
    "lemonsqueezy",
    "dub",
    "custom",
]
Consent = Literal["full", "limited", "none"]

_strict = with_config(ConfigDict(extra="forbid", strict=True))


class Shared(TypedDict, total=False):
    """What an event may say itself, or leave to the context."""

    visitorId: Id100 | None
    sessionId: Id100 | None
    contactId: Id64 | None
    eclub: Annotated[str, _trimmed(1024)] | None
    customerId: Id100 | None
    clickId: Id100 | None
    adClickIds: AdClickIds | None
    mailReference: Id100 | None
    language: Annotated[str, _trimmed(35)] | None
    url: Url | None
    referrer: Url | None
    utm: Utm | None


@_strict
class Context(Shared, total=False):
    """What holds for all events of a request."""

    consent: Consent | None


class Base(Shared, total=False):
    """What every event has."""

    id: Required[EventId]
    time: Required[Time]
    metadata: Metadata | None


class Person(Base, total=False):
    """Who a lead, a sale or a customer event is about."""

    customerName: Annotated[str, _trimmed(100, 0)] | None
    customerEmail: Email | None
    customerAvatar: Url | None


@_strict
class Page(Base, total=False):
    """A page was seen."""

    type: Required[Literal["page"]]
    title: Text500 | None


@_strict
class Product(Base, total=False):
    """A product was seen."""

    type: Required[Literal["product"]]
    itemId: Required[Id100]
    category: Text500 | None
    newSession: bool | None


@_strict
class CartItem(TypedDict):
    """So many of one thing."""

    sku: Id100
    quantity: Annotated[int, Field(ge=1, le=999_999)]


@_strict
class Cart(Base, total=False):
    """The whole cart as it is now. Its `url` is the link back to it."""

    type: Required[Literal["cart"]]
    cartReference: Required[Id100]
    items: Required[Annotated[list[CartItem], Field(max_length=500)]]


@_strict
class Lead(Person, total=False):
    """A customer showed interest: signed up, asked."""

    type: Required[Literal["lead"]]
    eventName: Required[EventName]
    mode: Literal["async", "wait", "deferred"] | None
    eventQuantity: Annotated[int, Field(ge=1, le=100)] | None


@_strict
class Sale(Person, total=False):
    """A customer bought. `amount` is in ISO 4217 minor units."""

    type: Required[Literal["sale"]]
    amount: Required[Annotated[int, Field(ge=0, le=10**12)]]
    currency: (
        Annotated[str, StringConstraints(strip_whitespace=True, pattern="^[A-Za-z]{3}$")] | None
    )
    invoiceId: Id100 | None
    cartReference: Id100 | None
    eventName: EventName | None
    leadEventName: EventName | None
    paymentProcessor: Processor | None


@_strict
class RecentView(TypedDict, total=False):
    """A product event from before the contact was known.

    What led to it is its own or unknown, never that of the request which brings it.
    """

    id: Required[EventId]
    time: Required[Time]
    itemId: Required[Id100]
    category: Text500 | None
    url: Url | None
    referrer: Url | None
    utm: Utm | None


@_strict
class Customer(Person, total=False):
    """Who a customer is, and what was seen before that was known."""

    type: Required[Literal["customer"]]
    country: (
        Annotated[str, StringConstraints(strip_whitespace=True, pattern="^[A-Za-z]{2}$")] | None
    )
    stripeCustomerId: Id100 | None
    recent: Annotated[list[RecentView], Field(max_length=25)] | None


@_strict
class Custom(Base, total=False):
    """Anything else."""

    type: Required[Literal["custom"]]
    eventName: Required[EventName]


Event = Annotated[
    Page | Product | Cart | Lead | Sale | Customer | Custom, Field(discriminator="type")
]
EventType = Literal["page", "product", "cart", "lead", "sale", "customer", "custom"]


@_strict
class MailPiece(Base, total=False):
    """What events about a piece of direct mail have, besides the ids in its order's metadata."""

    orderId: Required[Id100]
    live: bool | None
    """False: test mode, nothing was mailed."""


@_strict
class MailVisit(MailPiece, total=False):
    """Somebody followed the link of a mail piece. A source brings it."""

    type: Required[Literal["mail_visit"]]
    trackerId: Required[Id100]
    device: Text500 | None
    ipAddress: Annotated[str, StringConstraints(max_length=64)] | None
    """Truncated: of IPv4 the last byte is 0, of IPv6 all but the first 48 bits."""


@_strict
class MailOrder(MailPiece, total=False):
    """A mail piece's order is new, or has another state. A source brings it."""

    type: Required[Literal["mail_order"]]
    kind: Id64 | None
    status: Id64 | None
    imbStatus: Id64 | None
    imbDate: Id64 | None
    imbZipCode: Id64 | None
    trackingNumber: Id100 | None
    extraService: Id64 | None
    mailingClass: Id64 | None
    sendDate: Id64 | None
    description: Text500 | None


MailType = Literal["mail_visit", "mail_order"]
MAIL_TYPES: tuple[MailType, ...] = get_args(MailType)
"""What sources bring; nobody may post it."""

TYPES: tuple[EventType, ...] = get_args(EventType)
EVENT: TypeAdapter[Any] = TypeAdapter(Event)
"""Gives a plain dict. Raises pydantic's ValidationError, see `gateway.model.refusal`."""
CONTEXT: TypeAdapter[Any] = TypeAdapter(Context)

PERSONAL = frozenset(
    {
        "visitorId",
        "sessionId",
        "contactId",
        "eclub",
        "clickId",
        "adClickIds",
        "mailReference",
        "customerId",
        "customerName",
        "customerEmail",
        "customerAvatar",
        "country",
        "stripeCustomerId",
        "metadata",
        "recent",
    }
)
"""Fields that are dropped unless consent is full."""

FIELDS = frozenset().union(
    *(each.__annotations__ for each in (Context, Page, Product, Cart, Lead, Sale, Customer, Custom))
)
"""Every field of the wire's events and context."""


def without_personal(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that may be kept with limited consent."""
    return {name: value for name, value in fields.items() if name not in PERSONAL}
