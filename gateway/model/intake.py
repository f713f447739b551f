"""Judges one posted event, and makes the envelopes of a good one. Pure.

`CHECKS` is the path of an event: each step refuses it, or lets it pass on to the next.
"""

from collections.abc import Callable, Iterator
from typing import Any, Literal, NamedTuple

import orjson
from pydantic import ValidationError

from gateway.model import keys
from gateway.model.envelope import Derived
from gateway.model.event import (
    EVENT,
    EVENT_BYTES,
    MAX_DEPTH,
    deeper_than,
    without_personal,
)
from gateway.model.instant import TimeWithoutZoneError, parse_microseconds
from gateway.model.outcome import Rejection
from gateway.model.parameters import clean
from gateway.model.refusal import Refusal, refusal_of

AHEAD_MS = 3_600_000
"""An event may lie this far ahead of `sentAt`."""
SKEW_MS = 60_000
"""A sender's clock that is further off is not believed."""
EVENT_LEVEL = 3
"""The request, its `events`, an event."""
_GUEST_CHARACTERS = 100
"""As long as a customer id may be."""


class Terms(NamedTuple):
    """All that a request's events are judged by."""

    site: str
    currency: str
    types: frozenset[str]
    """What the key may post."""
    server: bool
    """A server key was used."""
    consent: Literal["full", "limited"]
    now_ms: int
    received_ms: int
    sent_us: int
    """`sentAt`, or the receipt where that was not given."""
    latest_us: int
    """No event may lie after this instant, by the sender's clock."""
    skewed: bool
    """The sender's clock is not believed."""
    window_ms: int
    large: bool
    """The body is so large that an event may be over its limit."""
    context: dict[str, Any]
    """As it is stored: checked, filled in from cookies, personal fields dropped."""
    body_context: dict[str, Any]
    """As it came, but checked."""
    contact_since_ms: int | None
    """Since when a cookie says who the visitor is; None where none does, or none is asked."""
    marks: tuple[str, ...]


class Arrival:
    """An event on its way through the checks."""

    __slots__ = ("corrected_ms", "event", "own_us", "raw")

    corrected_ms: int
    event: dict[str, Any]
    own_us: int

    def __init__(self, raw: Any) -> None:
        self.raw = raw


class Ready(NamedTuple):
    """What is to be published: an envelope's own part, and the key that chooses its partition."""

    routing_key: str
    dedup_key: str
    corrected_ms: int
    event: dict[str, Any]
    derived: Derived | None


class Accepted(NamedTuple):
    """A good event first, what is derived from it after it; and the key for answers."""

    answer_key: str
    ready: list[Ready]


def judge(raw: Any, terms: Terms) -> Accepted | Refusal:
    """Take one event of a request through the checks."""
    arrival = Arrival(raw)
    for check in CHECKS:
        refusal = check(arrival, terms)
        if refusal is not None:
            return refusal
    return _accepted(arrival, terms)


# The checks


def _fits(arrival: Arrival, terms: Terms) -> Refusal | None:
    if not terms.large:
        return None
    try:
        size = len(orjson.dumps(arrival.raw))
    except orjson.JSONEncodeError:
        return _TOO_DEEP
    return _TOO_LARGE if size > EVENT_BYTES else None


def _is_valid(arrival: Arrival, terms: Terms) -> Refusal | None:
    try:
        event = _validated(arrival.raw)
    except ValidationError as error:
        if deeper_than(arrival.raw, MAX_DEPTH - EVENT_LEVEL + 1):
            return _TOO_DEEP
        return refusal_of(error)
    if event["type"] == "sale" and event.get("currency") is None:
        event["currency"] = terms.currency
    arrival.event = event
    return None


def _is_allowed(arrival: Arrival, terms: Terms) -> Refusal | None:
    event = arrival.event
    if event["type"] not in terms.types:
        return Refusal(
            Rejection.TYPE_NOT_ALLOWED,
            "type",
            f"This site's browser key may not post {event['type']} events; send them from your"
            " server with a server key, or add the type to browser_events.",
        )
    if not terms.server and event.get("stripeCustomerId") is not None:
        return Refusal(
            Rejection.SERVER_KEY_ONLY,
            "stripeCustomerId",
            "stripeCustomerId may only be posted with a server key; leave it out here.",
        )
    return None


def _is_in_time(arrival: Arrival, terms: Terms) -> Refusal | None:
    event = arrival.event
    own_us = _instant(event["time"], "time")
    if isinstance(own_us, Refusal):
        return own_us
    corrected_ms = _corrected_ms(own_us, terms)
    arrival.own_us = own_us
    arrival.corrected_ms = corrected_ms
    if terms.now_ms - corrected_ms > terms.window_ms:
        return Refusal(
            Rejection.TOO_OLD,
            "time",
            f"The event is older than {terms.window_ms // 1000} seconds, the time in which"
            " duplicates can be told; it can no longer be taken.",
        )
    if own_us > terms.latest_us:
        return _ahead("time")
    return _views_in_time(event["recent"], terms) if event.get("recent") else None


def _views_in_time(views: list[dict[str, Any]], terms: Terms) -> Refusal | None:
    for index, view in enumerate(views):
        field = f"recent[{index}].time"
        own_us = _instant(view["time"], field)
        if isinstance(own_us, Refusal):
            return own_us
        if own_us > terms.latest_us:
            return _ahead(field)
    return None


def _is_identified(arrival: Arrival, terms: Terms) -> Refusal | None:
    """Ask who it is about; what limited consent drops is not asked for."""
    event = arrival.event
    kind = event["type"]
    if kind == "customer":
        known = any(_merged(event, terms, name) for name in ("customerId", "contactId", "eclub"))
        return None if known else _NO_IDENTITY
    if kind not in {"lead", "sale"} or _merged(event, terms, "customerId"):
        return None
    guest = f"guest:{event.get('invoiceId')}"
    if event.get("invoiceId") and len(guest) <= _GUEST_CHARACTERS:
        event["customerId"] = guest
        return None
    if terms.consent == "limited":
        return None
    return _NO_BUYER if kind == "sale" else _NO_CUSTOMER


CHECKS: tuple[Callable[[Arrival, Terms], Refusal | None], ...] = (
    _fits,
    _is_valid,
    _is_allowed,
    _is_in_time,
    _is_identified,
)


def _merged(event: dict[str, Any], terms: Terms, name: str) -> Any:
    """Return the value that wins. With limited consent the body's, though it will be dropped."""
    if name in event:
        return event[name]
    return terms.context.get(name) or terms.body_context.get(name)


def _instant(text: str, field: str) -> int | Refusal:
    try:
        return parse_microseconds(text)
    except TimeWithoutZoneError:
        return Refusal(
            Rejection.TIME_WITHOUT_ZONE,
            field,
            f"{field} does not say its zone; end it with Z or an offset such as +01:00.",
        )
    except ValueError:
        return Refusal(
            Rejection.BAD_VALUE,
            field,
            f"{field} must be ISO 8601 with a zone, such as 2026-11-21T10:15:00.120Z.",
        )


def _corrected_ms(own_us: int, terms: Terms) -> int:
    return _instant_here_ms(own_us, terms) if terms.skewed else own_us // 1000


def _ahead(field: str) -> Refusal:
    return Refusal(
        Rejection.IN_FUTURE,
        field,
        f"{field} is more than an hour after sentAt; take both from the same clock.",
    )


# What is published


def _accepted(arrival: Arrival, terms: Terms) -> Accepted:
    event = arrival.event
    key = keys.dedup_key(terms.site, event, arrival.own_us)
    answer_key = keys.answer_key(key, event)
    routing_key = keys.routing_key(event, terms.body_context)
    event = cleaned(event)
    if terms.consent == "limited":
        event = without_personal(event)
    elif event["type"] == "product" and _is_before_contact(event, arrival.own_us, terms):
        event = {**event, "contactId": None}
    ready = [Ready(routing_key, key, arrival.corrected_ms, event, None)]
    if event["type"] == "sale" and event.get("cartReference"):
        ready.append(_close(event, key, arrival.corrected_ms))
    elif event.get("recent"):
        ready.extend(_views(event, terms))
    return Accepted(answer_key, ready)


def cleaned(fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields, their addresses without what identifies a person or a click.

    They need not have been checked; what is unlike itself in them stays as it is.
    """
    changed: dict[str, Any] = {}
    for name in ("url", "referrer"):
        address = fields.get(name)
        if isinstance(address, str):
            kept = clean(address)
            if kept is not address:
                changed[name] = kept
    views = fields.get("recent")
    if isinstance(views, list):
        changed["recent"] = [cleaned(view) if isinstance(view, dict) else view for view in views]
    return {**fields, **changed} if changed else fields


def _close(sale: dict[str, Any], sale_key: str, corrected_ms: int) -> Ready:
    """Empty the cart that a sale names; whose it is, is said where the sale says it itself."""
    cart = {name: sale[name] for name in _CARRIED if name in sale}
    cart |= {
        "type": "cart",
        "id": f"{sale['id']}:close",
        "time": sale["time"],
        "cartReference": sale["cartReference"],
        "items": [],
    }
    derived = Derived("close", sale["id"])
    return Ready(sale["cartReference"], keys.close_key(sale_key), corrected_ms, cart, derived)


def _is_before_contact(view: dict[str, Any], own_us: int, terms: Terms) -> bool:
    """Whether a view would get its contact from a cookie that was set after it happened.

    It has none then, whenever it arrives: a customer's `recent` brings it with one.
    """
    if terms.contact_since_ms is None or "contactId" in view or "contactId" in terms.body_context:
        return False
    return _instant_here_ms(own_us, terms) < terms.contact_since_ms


def _instant_here_ms(own_us: int, terms: Terms) -> int:
    """Return an instant by our clock, also for a sender's clock that is believed otherwise."""
    return terms.received_ms - (terms.sent_us - own_us) // 1000


def _views(customer: dict[str, Any], terms: Terms) -> Iterator[Ready]:
    """Derive product events, once it is known whose they are.

    Not those that are past telling, nor those that went out with the contact of a cookie.
    """
    carried = {name: _merged(customer, terms, name) for name in ("contactId", "eclub")}
    if not any(carried.values()):
        return
    carried |= {name: customer[name] for name in _CARRIED if name in customer}
    for view in customer["recent"]:
        own_us = parse_microseconds(view["time"])
        corrected_ms = _corrected_ms(own_us, terms)
        if terms.now_ms - corrected_ms > terms.window_ms:
            continue
        since_ms = terms.contact_since_ms
        if since_ms is not None and _instant_here_ms(own_us, terms) >= since_ms:
            continue
        product = {**carried, **_NO_ORIGIN, **view, "type": "product"}
        derived = Derived("recent", customer["id"])
        key = keys.recent_key(terms.site, view["id"])
        yield Ready(view["id"], key, corrected_ms, product, derived)


_validated = EVENT.validator.validate_python  # without the adapter's own layer
_CARRIED = ("visitorId", "sessionId", "contactId", "eclub", "customerId", "language")
_NO_ORIGIN: dict[str, None] = {"url": None, "referrer": None, "utm": None}
"""Where the request's page came from led to none of the earlier views."""
_TOO_LARGE = Refusal(
    Rejection.TOO_LARGE, None, "An event may have 64 KiB as compact JSON; send less in it."
)
_TOO_DEEP = Refusal(
    Rejection.TOO_DEEP, None, f"A request's JSON may nest {MAX_DEPTH} levels; flatten the event."
)
_NO_IDENTITY = Refusal(
    Rejection.NO_IDENTITY,
    "customerId",
    "A customer event must say who it is: send customerId, contactId or eclub.",
)
_NO_CUSTOMER = Refusal(
    Rejection.MISSING_FIELD, "customerId", "Add customerId, here or in context: the shop's account."
)
_NO_BUYER = Refusal(
    Rejection.MISSING_FIELD,
    "customerId",
    "Add customerId, here or in context; for a guest send an invoiceId of at most 94 characters.",
)
