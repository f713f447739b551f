"""What PostGrid answers, as lines for a terminal. Pure; hostile data can't steer the terminal."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import orjson

from gateway.cli.ledger_text import plain, table

Json = Mapping[str, Any]

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "trackers": (
        "id",
        "visitCount",
        "uniqueVisitCount",
        "urlExpireAfterDays",
        "createdAt",
        "description",
        "redirectURLTemplate",
    ),
    "visits": ("createdAt", "id", "orderID", "device", "ipAddress"),
    "orders": (
        "id",
        "status",
        "imbStatus",
        "imbDate",
        "trackingNumber",
        "sendDate",
        "updatedAt",
        "description",
    ),
    "webhooks": ("id", "enabled", "payloadFormat", "url", "enabledEvents", "description"),
    "invocations": ("createdAt", "id", "type", "statusCode", "orderID", "event"),
    "events": ("createdAt", "id", "type", "of"),
}
"""The columns of each listing, by the wire's names; `--json` has everything."""

STAGES = ("ready", "printing", "processed_for_delivery", "completed")
_CONTACT = ("vtid=", "eclub=")
_MAIL = ("mail_ref=", "mref=")
"""Parameters of a landing page that the collector reads."""


def listing_lines(name: str, rows: Sequence[Json]) -> Iterator[str]:
    """Yield a table of a listing's rows, or say that there are none."""
    yield from table_of(name, [cells(name, row) for row in rows])


def table_of(name: str, rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the table of rows that `cells` has made."""
    if rows:
        yield from table([_COLUMNS[name], *rows])
    else:
        yield f"no {name}"


def cells(name: str, row: Json) -> tuple[str, ...]:
    """Return what a listing's table shows of a row."""
    data = row.get("data")
    shown = {**row, "of": data.get("id")} if isinstance(data, dict) else row
    return tuple(_cell(shown.get(column)) for column in _COLUMNS[name])


def thing_lines(thing: Json) -> Iterator[str]:
    """Yield every field of a thing on a line of its own; an empty one is left out."""
    yield from table([(name, _cell(value)) for name, value in thing.items() if value is not None])


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case str() | int() | float():
            return plain(value)
        case list() if all(isinstance(each, str) for each in value):
            return plain(", ".join(value))
        case _:
            return plain(orjson.dumps(value).decode())


def merge_lines(tracker_id: str) -> Iterator[str]:
    """Yield what goes into a mail piece's HTML so that it bears the tracker's link."""
    name = plain(tracker_id)
    yield "in the template of the mail piece:"
    yield f"  the link as text   {{{{{name}}}}}"
    yield f'  as a QR code       <img src="{{{{{name}.qrcode}}}}">'


def template_warnings(template: str) -> Iterator[str]:
    """Yield what the landing page will not know, for want of a parameter in the template."""
    query = urlsplit(template).query.lower() if _is_address(template) else ""
    names = [f"{piece.partition('=')[0]}=" for piece in query.split("&")]
    if not any(name in _CONTACT for name in names):
        yield (
            "the redirect template brings no contact: views and carts cannot be told to be this "
            "recipient's; add vtid={{contactId}}, with contactId among the order's merge variables"
        )
    if not any(name in _MAIL for name in names):
        yield (
            "the redirect template brings no mail reference: a sale cannot be traced back to its "
            "mail piece; add mail_ref={{mailReference}}, with mailReference among the order's "
            "merge variables and its metadata"
        )


def _is_address(text: str) -> bool:
    try:
        return bool(urlsplit(text).scheme)
    except ValueError:
        return False


def timeline_lines(order: Json) -> Iterator[str]:
    """Yield what is known of an order's way, in the order in which it happened."""
    kind, mode = order.get("object") or "order", "live" if order.get("live") else "test"
    words = f'  "{plain(order["description"])}"' if order.get("description") else ""
    yield f"{plain(order['id'])}  {plain(kind).replace('_', ' ')}, {mode}{words}"
    yield f"  {_stages(str(order.get('status') or 'unknown'))}"
    for instant, what in sorted(_steps(order), key=lambda step: step[0] or "9"):
        yield f"  {plain(instant) if instant else 'time unknown':<24}  {what}"
    service = order.get("extraService") or order.get("mailingClass")
    if service:
        yield f"  {'sent as':<24}  {plain(service)}"
    if order.get("trackingNumber"):
        yield f"  {'tracking number':<24}  {plain(order['trackingNumber'])}"


def _stages(status: str) -> str:
    """Show how far it is: `ready > [printing] > …`; another status stands alone."""
    if status not in STAGES:
        return f"[{plain(status)}]"
    return " > ".join(f"[{each}]" if each == status else each for each in STAGES)


def _steps(order: Json) -> Iterator[tuple[str, str]]:
    if order.get("createdAt"):
        yield str(order["createdAt"]), "ordered"
    if order.get("sendDate"):
        yield str(order["sendDate"]), "to be sent"
    if order.get("updatedAt"):
        yield str(order["updatedAt"]), f"status {plain(order.get('status') or 'unknown')}"
    if order.get("imbStatus"):
        zip_code = order.get("imbZIPCode")
        where = f", last seen at ZIP {plain(zip_code)}" if zip_code else ""
        yield str(order.get("imbDate") or ""), f"USPS: {plain(order['imbStatus'])}{where}"
    cancellation = order.get("cancellation")
    if isinstance(cancellation, dict):
        note = f": {plain(cancellation['note'])}" if cancellation.get("note") else ""
        reason = plain(cancellation.get("reason") or "no reason given")
        yield str(order.get("updatedAt") or ""), f"cancelled, {reason}{note}"
