"""Today's dialect: leads and sales to the tracking endpoints, customers by PATCH (dub.md, 1b, 1e).

Names and limits are those of the Python SDK 0.39.0.
"""

from typing import Any
from urllib.parse import quote

from gateway.adapters.destinations.dub.dialect import (
    CUSTOMER,
    LEAD,
    SALE,
    Call,
    Dialect,
    Fields,
    Said,
    known,
    person,
    repeated,
    sale_taken,
)
from gateway.adapters.destinations.dub.settings import DubSettings
from gateway.model.attempt import Answered, Done, Item, Skip
from gateway.model.outcome import Outcome, Reason

REMEMBERED_SECONDS = 600_000.0
"""Dub knows leads and invoices again for 7 days; less an hour for slow requests and clocks."""

_FORGETS = "after 7 days"
_ENDPOINTS = {LEAD: "track/lead", SALE: "track/sale", CUSTOMER: "customers"}


def _lead(fields: Fields, key: str, settings: DubSettings) -> Item:
    mode = fields.get("mode", settings.lead_mode)
    lead = {
        # Empty means: the click of the customer, if Dub knows one.
        "clickId": fields.get("clickId", ""),
        "eventName": fields["eventName"],
        "customerExternalId": fields["customerId"],
        **person(fields),
        "mode": mode,
        "eventQuantity": fields.get("eventQuantity"),
        "metadata": fields.get("metadata"),
    }
    # In doubt it is sent again: Dub counts a customer's lead of one name once in 7 days. Not so
    # deferred ones.
    return Item(
        LEAD,
        key,
        repeatable=mode != "deferred",
        body=known(lead),
        repeatable_seconds=REMEMBERED_SECONDS,
    )


def _sale(fields: Fields, key: str, settings: DubSettings) -> Item | Skip:
    if fields["amount"] == 0:
        return Skip(Reason.AMOUNT_ZERO)
    currency = fields.get("currency")
    sale = {
        "customerExternalId": fields["customerId"],
        "amount": fields["amount"],
        "currency": currency.lower() if currency else None,
        "eventName": fields.get("eventName", "Purchase"),
        "paymentProcessor": fields.get("paymentProcessor", settings.payment_processor),
        "invoiceId": fields.get("invoiceId"),
        "leadEventName": fields.get("leadEventName"),
        # Only for a customer that Dub does not know: then it makes one of the click (direct sale).
        "clickId": fields.get("clickId"),
        **person(fields),
        "metadata": fields.get("metadata"),
    }
    # In doubt it is sent again if it has an invoice: Dub answers a second sale with the same one
    # from what it kept of the first, for 7 days. It keeps that at the end: two at once are two
    # sales (dub.md 2), so time is left for the first. Without an invoice every request is a sale.
    return Item(
        SALE,
        key,
        repeatable=bool(fields.get("invoiceId")),
        body=known(sale),
        repeatable_seconds=REMEMBERED_SECONDS,
        unanswered_wait_seconds=settings.unanswered_wait_seconds,
    )


def _customer(fields: Fields, key: str, _settings: DubSettings) -> Item | Skip:
    country = fields.get("country")
    change = known(
        {
            "name": fields.get("customerName"),
            "email": fields.get("customerEmail"),
            "avatar": fields.get("customerAvatar"),
            "country": country.upper() if country else None,
            "stripeCustomerId": fields.get("stripeCustomerId"),
        }
    )
    if not change:
        return Skip(Reason.NOTHING_TO_SEND)
    # In doubt it is sent again: the same change twice is one change.
    body = {"customerId": fields["customerId"], "change": change}
    return Item(CUSTOMER, key, repeatable=True, body=body)


def _call(item: Item) -> Call:
    if item.kind == CUSTOMER:
        customer = quote(item.body["customerId"], safe="")
        return Call("PATCH", f"customers/ext_{customer}", item.body["change"])
    return Call("POST", _ENDPOINTS[item.kind], item.body)


def _taken(item: Item, said: dict[str, Any]) -> Said | None:
    match item.kind:
        case "lead":
            return _lead_taken(item, said)
        case "sale":
            return sale_taken(said)
        case _:
            return Done(Outcome.DELIVERED) if "id" in said else None


def _lead_taken(item: Item, said: dict[str, Any]) -> Said | None:
    if "link" not in said:
        return None
    if said["link"] is not None:
        return Done(Outcome.DELIVERED)
    if item.body["mode"] == "deferred":
        return Done(Outcome.DELIVERED, Reason.UNCONFIRMED, "Dub named no link")
    return repeated(item, _FORGETS)


def _no_repetition(_item: Item, _answer: Answered) -> None:
    """Say nothing: a repeated lead is a success, without a link."""


CURRENT = Dialect(
    {LEAD: _lead, SALE: _sale, CUSTOMER: _customer},
    _ENDPOINTS,
    _call,
    _taken,
    _no_repetition,
    _FORGETS,
)
