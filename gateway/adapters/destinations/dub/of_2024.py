"""The dialect of October and November 2024: Python SDK 0.10.6 to 0.14.0 (dub.md, 1a).

It has neither modes nor direct sales, tells no repeated sale, and takes customers by a tracking
endpoint of their own, which makes them too. Values over its limits (names and avatars of 100
characters, event names of 50, three payment processors) are sent as they are: nothing is cut, Dub
refuses them by name.
"""

from http import HTTPStatus
from typing import Any

from gateway.adapters.destinations.dub.dialect import (
    CUSTOMER,
    LEAD,
    SALE,
    Call,
    Dialect,
    Fields,
    Said,
    known,
    message_of,
    person,
    repeated,
    sale_taken,
)
from gateway.adapters.destinations.dub.settings import DubSettings
from gateway.model.answers import json_object
from gateway.model.attempt import Answered, Done, Item, Skip
from gateway.model.outcome import Outcome, Reason

REMEMBERED_SECONDS = 3000.0
"""Dub knows a lead again for an hour; less ten minutes for slow requests and clocks."""

_FORGETS = "after an hour"
_ENDPOINTS = {LEAD: "track/lead", SALE: "track/sale", CUSTOMER: "track/customer"}
_REPEATED = "Rate limit exceeded for customer "
"""How the message of a repeated lead's 429 begins; that of too many requests is another."""


def _lead(fields: Fields, key: str, _settings: DubSettings) -> Item | Skip:
    click = fields.get("clickId")
    if not click:
        return Skip(Reason.NO_CLICK)
    lead = {
        "clickId": click,
        "eventName": fields["eventName"],
        "customerId": fields["customerId"],
        **person(fields),
        "metadata": fields.get("metadata"),
    }
    # In doubt it is sent again: Dub counts a customer's lead of one name once an hour.
    return Item(LEAD, key, repeatable=True, body=known(lead), repeatable_seconds=REMEMBERED_SECONDS)


def _sale(fields: Fields, key: str, settings: DubSettings) -> Item | Skip:
    if fields["amount"] == 0:
        return Skip(Reason.AMOUNT_ZERO)
    currency = fields.get("currency")
    sale = {
        "customerId": fields["customerId"],
        "amount": fields["amount"],
        "paymentProcessor": fields.get("paymentProcessor", settings.payment_processor),
        "eventName": fields.get("eventName", "Purchase"),
        "invoiceId": fields.get("invoiceId"),
        "currency": currency.lower() if currency else None,
        "metadata": fields.get("metadata"),
    }
    # In doubt `on_unknown` decides, invoice or not: every request is a sale.
    return Item(SALE, key, repeatable=False, body=known(sale))


def _customer(fields: Fields, key: str, _settings: DubSettings) -> Item | Skip:
    told = known(person(fields))
    if not told:
        return Skip(Reason.NOTHING_TO_SEND)
    # In doubt it is sent again: the same customer twice is one customer.
    body = {"customerId": fields["customerId"], **told}
    return Item(CUSTOMER, key, repeatable=True, body=body)


def _call(item: Item) -> Call:
    return Call("POST", _ENDPOINTS[item.kind], item.body)


def _taken(item: Item, said: dict[str, Any]) -> Said | None:
    match item.kind:
        case "lead":
            return _lead_taken(item, said)
        case "sale":
            return sale_taken(said)
        case _:
            return Done(Outcome.DELIVERED) if "customerId" in said else None


def _lead_taken(item: Item, said: dict[str, Any]) -> Said | None:
    if "click" not in said:
        return None
    # Today's server takes these names too, and tells a repetition in its own way.
    if said.get("link", "not said") is None:
        return repeated(item, "after 7 days")
    return Done(Outcome.DELIVERED)


def _repeated(item: Item, answer: Answered) -> Done | None:
    if item.kind != LEAD or answer.status != HTTPStatus.TOO_MANY_REQUESTS:
        return None
    if not message_of(json_object(answer.body)).startswith(_REPEATED):
        return None
    return repeated(item, _FORGETS)


OF_2024 = Dialect(
    {LEAD: _lead, SALE: _sale, CUSTOMER: _customer},
    _ENDPOINTS,
    _call,
    _taken,
    _repeated,
    _FORGETS,
)
