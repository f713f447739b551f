"""From PostGrid's objects to events: orders and tracker visits, as they come over the wire. Pure.

Only the fields that are named here go on: no postal address, merge variable, bank account or
document URL is ever read. Every value is hostile; one that does not fit is left out.
"""

from collections.abc import Iterator, Mapping
from hashlib import sha256
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Any, NamedTuple

from pydantic import TypeAdapter, ValidationError

from gateway.adapters.postgrid.settings import IdName
from gateway.model.event import Id64, Id100, MailOrder, MailVisit, Metadata
from gateway.model.instant import format_ms, parse_ms

ORDER_KINDS = frozenset(
    {
        "letter",
        "postcard",
        "cheque",
        "self_mailer",
        "box",
        "snap_pack",
        "return_envelope_order",
    }
)
"""The kinds of orders whose events PostGrid has (postgrid.md, 4)."""
UNKNOWN_DEVICE = "Device Unknown"
"""What PostGrid writes where it knows none (postgrid.md, 2)."""

Ids = Mapping[IdName, str]
"""Where an order's metadata holds each id, as `metadata.customerId`."""

_EVENT_ID_CHARACTERS = 64
_IPV4_BITS, _IPV6_BITS = 24, 48
_STATE_FIELDS = ("status", "imbStatus", "imbDate", "imbZipCode", "trackingNumber")
"""What makes another state of an order: a change of anything else is no news."""
_STATUSES = (
    *("placed", "ready", "printing", "processed_for_delivery"),
    *("", "filled", "completed", "cancelled"),
)
"""In the order in which they come about; the empty one stands for any that we do not know.
`placed` and `filled` are those of return envelopes (postgrid.md, 3)."""
_IMB_STATUSES = ("", "entered_mail_stream", "out_for_delivery", "returned_to_sender")
_OVER = frozenset({"filled", "completed", "cancelled"})


class UnusableError(ValueError):
    """It lacks what an event needs; the text says what."""


class OrderState(NamedTuple):
    """What is remembered of an order, to tell what is news."""

    digest: str
    """Equal for equal states."""
    updated_ms: int
    progress: tuple[int, int]
    """How far it has come; decides between states of one instant."""
    over: bool
    """Nothing more is expected but the post's own scans."""

    def is_news(self, known: "OrderState | None") -> bool:
        """Whether this state is to be told of, where `known` was the last."""
        if known is None:
            return True
        if self.digest == known.digest:
            return False
        return (self.updated_ms, self.progress) > (known.updated_ms, known.progress)


class OrderSeen(NamedTuple):
    """An order as it was at one moment."""

    order_id: str
    created_ms: int
    state: OrderState
    event: dict[str, Any]
    left_out: tuple[str, ...]
    """Fields that do not fit and are left out: for a warning."""


class VisitSeen(NamedTuple):
    """A visit; its event does not hold yet what its order says."""

    visit_id: str
    tracker_id: str
    order_id: str
    created_ms: int
    event: dict[str, Any]


def order_seen(order: Mapping[str, Any], kind: str | None, ids: Ids, now_ms: int) -> OrderSeen:
    """Read an order. `kind` is what the message's type says. Raises UnusableError."""
    order_id = _id(order.get("id"), "an order without an id")
    created_ms = instant_ms(order.get("createdAt"), now_ms)
    updated_ms = instant_ms(order.get("updatedAt"), created_ms)
    found = {
        "kind": kind or _kind(order, order_id),
        "status": order.get("status"),
        "imbStatus": order.get("imbStatus"),
        "imbDate": order.get("imbDate"),
        "imbZipCode": order.get("imbZIPCode"),
        "trackingNumber": order.get("trackingNumber"),
        "extraService": order.get("extraService"),
        "mailingClass": order.get("mailingClass"),
        "sendDate": order.get("sendDate"),
        "description": order.get("description"),
        "live": order.get("live"),
        **told_by(order, ids),
    }
    fields, left_out = _fitting(found, _ORDER)
    digest = sha256(repr([fields.get(name) for name in _STATE_FIELDS]).encode()).hexdigest()[:12]
    event = {
        "type": "mail_order",
        "id": _event_id(order_id, digest),
        "time": format_ms(updated_ms),
        "orderId": order_id,
        **fields,
    }
    state = OrderState(digest, updated_ms, _progress(fields), fields.get("status") in _OVER)
    return OrderSeen(order_id, created_ms, state, event, left_out)


def visit_seen(visit: Mapping[str, Any], now_ms: int) -> VisitSeen:
    """Read a visit. Raises UnusableError."""
    visit_id = _id(visit.get("id"), "a visit without an id")
    tracker_id = _id(visit.get("tracker"), "a visit without its tracker")
    order_id = _id(visit.get("orderID"), "a visit without its order")
    created_ms = instant_ms(visit.get("createdAt"), now_ms)
    device = visit.get("device")
    found = {
        "device": None if device == UNKNOWN_DEVICE else device,
        "live": visit.get("live"),
        "ipAddress": truncated(visit.get("ipAddress")),
    }
    fields, _ = _fitting(found, _VISIT)
    event = {
        "type": "mail_visit",
        "id": _event_id(visit_id),
        "time": format_ms(created_ms),
        "trackerId": tracker_id,
        "orderId": order_id,
        **fields,
    }
    return VisitSeen(visit_id, tracker_id, order_id, created_ms, event)


def with_order(visit: VisitSeen, order: Mapping[str, Any] | None, ids: Ids) -> dict[str, Any]:
    """Return the visit's event with what its order tells; None: nobody can tell."""
    if order is None:
        return visit.event
    fields, _ = _fitting(told_by(order, ids), _VISIT)
    return {**visit.event, **fields}


def told_by(order: Mapping[str, Any], ids: Ids) -> dict[str, Any]:
    """Return the order's metadata and the ids found there; a number is an id as its digits."""
    metadata = order.get("metadata")
    if not isinstance(metadata, dict):
        return {}
    found: dict[str, Any] = {"metadata": metadata or None}
    for name, path in ids.items():
        value: Any = order
        for step in path.split("."):
            value = value.get(step) if isinstance(value, dict) else None
        is_number = isinstance(value, int) and not isinstance(value, bool)
        found[name] = str(value) if is_number else value
    return found


def truncated(address: object) -> str | None:
    """Return an IP address without what tells one household from another; None if it is none."""
    try:
        found = ip_address(address) if isinstance(address, str) else None
    except ValueError:
        return None
    if isinstance(found, IPv6Address):
        found = found.ipv4_mapped or IPv6Address(int(found))  # without its zone
    if found is None:
        return None
    bits = _IPV6_BITS if isinstance(found, IPv6Address) else _IPV4_BITS
    return str(ip_network((found, bits), strict=False).network_address)


# The parts


_VISIT = {name: MailVisit.__annotations__[name] for name in ("device", "live", "ipAddress")}
_ORDER = {
    name: MailOrder.__annotations__[name]
    for name in (
        *("kind", "status", "imbStatus", "imbDate", "imbZipCode", "trackingNumber"),
        *("extraService", "mailingClass", "sendDate", "description", "live"),
    )
}
_TOLD = {
    "metadata": Metadata,
    "contactId": Id64,
    **dict.fromkeys(("customerId", "visitorId", "clickId", "mailReference"), Id100),
}
_VISIT |= _TOLD
_ORDER |= _TOLD
_CHECKS: dict[str, TypeAdapter[Any]] = {
    name: TypeAdapter(annotation) for name, annotation in {**_VISIT, **_ORDER}.items()
}


def _fitting(
    found: Mapping[str, Any], wanted: Mapping[str, Any]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return what there is and fits the wire's limits, and the names of what does not fit."""
    checked = dict(_checked(found, wanted))
    left_out = tuple(
        name for name, value in found.items() if value is not None and name not in checked
    )
    return checked, left_out


def _checked(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in found.items():
        if name in wanted and value is not None:
            try:
                yield name, _CHECKS[name].validate_python(value, strict=True)
            except ValidationError:
                continue


def _id(value: object, lack: str) -> str:
    try:
        found: str = _ID.validate_python(value, strict=True)
    except ValidationError:
        raise UnusableError(lack) from None
    return found


_ID: TypeAdapter[str] = TypeAdapter(Id100)


def _event_id(*parts: str) -> str:
    """Return an id that is the same whenever the same thing is seen, within the wire's limits."""
    plain = ":".join(parts)
    fits = len(plain) <= _EVENT_ID_CHARACTERS and all("!" <= sign <= "~" for sign in plain)
    return plain if fits else f"mail:{sha256(plain.encode()).hexdigest()[:48]}"


def _kind(order: Mapping[str, Any], order_id: str) -> str | None:
    said = order.get("object")
    if isinstance(said, str) and said in ORDER_KINDS:
        return said
    by_id = order_id.rpartition("_")[0]
    return by_id if by_id in ORDER_KINDS else None


def instant_ms(text: object, otherwise_ms: int) -> int:
    """Read an instant as PostGrid writes it; `otherwise_ms` where it is none."""
    try:
        return parse_ms(text) if isinstance(text, str) else otherwise_ms
    except (ValueError, OverflowError):
        return otherwise_ms


def _progress(fields: Mapping[str, Any]) -> tuple[int, int]:
    status, imb = fields.get("status"), fields.get("imbStatus")
    return (
        _STATUSES.index(status if status in _STATUSES else ""),
        _IMB_STATUSES.index(imb if imb in _IMB_STATUSES else ""),
    )
