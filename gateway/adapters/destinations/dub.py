"""Dub: leads, sales and customers, one request each, to its conversion API (today's dialect).

Dub's answers carry the outcome, so a success that can't be read is no answer. Where a rule below
rests on how Dub behaves, the fact is in its documentation or its published server source.
"""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any, Literal
from urllib.parse import quote

import orjson
from pydantic import Field

from gateway.deliver.settings import BaseUrl, DestinationSettings, Seconds, Secret
from gateway.model.answers import hide, json_object, judge, reply, succeeded, wrong_setting
from gateway.model.attempt import Again, Answered, Done, Item, Reply, Request, Skip, Tried, Verdict
from gateway.model.envelope import Envelope
from gateway.model.outcome import Outcome, Reason
from gateway.ports import Clock, HttpClient

_LEAD, _SALE, _CUSTOMER = "lead", "sale", "customer"
_ENDPOINTS = {_LEAD: "track/lead", _SALE: "track/sale", _CUSTOMER: "customers"}
_ABOUT_THE_EVENT = ("Click ", "Link ", "Lead ", "Customer ")
"""How the message of a 404 begins that speaks of an event; others speak of path or workspace."""
_DETAIL_CHARACTERS = 500

PaymentProcessor = Literal[
    "stripe", "shopify", "polar", "paddle", "apple", "revenuecat", "lemonsqueezy", "dub", "custom"
]


class DubSettings(DestinationSettings):
    """One Dub workspace, by its key."""

    kind: Literal["dub"]
    base_url: BaseUrl = "https://api.dub.co"
    api_key: Secret
    dialect: Literal["current"] = "current"
    lead_mode: Literal["async", "wait", "deferred"] = "wait"
    """For leads that name none. With `wait` a sale right after the lead finds it; with `async`
    it may have to wait until Dub has taken the lead in."""
    payment_processor: PaymentProcessor = "custom"
    """For sales that name none."""
    unattributed_wait_seconds: Seconds = 3600.0
    """How long a sale waits for its customer or lead to become known."""
    events: tuple[Literal["lead", "sale", "customer"], ...] = ("lead", "sale", "customer")
    batch_events: Literal[1] = 1
    """Dub has no batches."""
    rate_per_second: Annotated[float, Field(gt=0)] = 18.0
    """The Business plan allows 1,200 requests a minute per key."""
    concurrency: Annotated[int, Field(ge=1, le=256)] = 8


class DubDestination:
    """The `Destination` for Dub."""

    def __init__(self, settings: DubSettings, http: HttpClient, clock: Clock) -> None:
        self._settings = settings
        self._http = http
        self._clock = clock

    @property
    def needs_contact(self) -> bool:
        """It takes no views."""
        return False

    @property
    def cart_step_ms(self) -> int:
        """It takes no carts."""
        return 1

    def prepare(self, envelope: Envelope, _time_ms: int) -> Item | Skip:
        """Make a request of the event; Dub books it when received and takes no time."""
        fields = envelope.fields()
        customer = fields.get("customerId")
        if not customer:
            limited = envelope.consent == "limited"
            return Skip(Reason.NO_CONSENT if limited else Reason.NO_CUSTOMER)
        # One key for all kinds: a lead comes before the sale that needs it.
        key = f"{envelope.site}/{customer}"
        match envelope.type:
            case "lead":
                return self._lead(fields, key)
            case "sale":
                return self._sale(fields, key)
            case "customer":
                return _change(fields, key)
            case _:
                return Skip(Reason.NOTHING_TO_SEND)

    def _lead(self, fields: dict[str, Any], key: str) -> Item:
        mode = fields.get("mode", self._settings.lead_mode)
        lead = {
            # Empty means: the click of the customer, if Dub knows one.
            "clickId": fields.get("clickId", ""),
            "eventName": fields["eventName"],
            "customerExternalId": fields["customerId"],
            **_person(fields),
            "mode": mode,
            "eventQuantity": fields.get("eventQuantity"),
            "metadata": fields.get("metadata"),
        }
        # Dub counts a customer's lead of one name once in 7 days, but for deferred ones.
        return Item(_LEAD, key, repeatable=mode != "deferred", body=_known(lead))

    def _sale(self, fields: dict[str, Any], key: str) -> Item | Skip:
        if fields["amount"] == 0:
            return Skip(Reason.AMOUNT_ZERO)
        currency = fields.get("currency")
        sale = {
            "customerExternalId": fields["customerId"],
            "amount": fields["amount"],
            "currency": currency.lower() if currency else None,
            "eventName": fields.get("eventName", "Purchase"),
            "paymentProcessor": fields.get("paymentProcessor", self._settings.payment_processor),
            "invoiceId": fields.get("invoiceId"),
            "leadEventName": fields.get("leadEventName"),
            "clickId": fields.get("clickId"),
            **_person(fields),
            "metadata": fields.get("metadata"),
        }
        # Dub answers a second sale with the same invoice from what it kept of the first.
        return Item(_SALE, key, repeatable=bool(fields.get("invoiceId")), body=_known(sale))

    def batch_limit(self, _kind: str) -> int:
        """Return 1."""
        return self._settings.batch_events

    def request(self, items: Sequence[Item]) -> Request:
        """Make the request for one item."""
        (item,) = items
        body = item.body["change"] if item.kind == _CUSTOMER else item.body
        return Request(_ENDPOINTS[item.kind], orjson.dumps(body), (item,))

    async def send(self, request: Request) -> Reply:
        """Make the request and read its outcome from the answer."""
        (item,) = request.items
        settings = self._settings
        secret = settings.api_key.get_secret_value()
        address = f"{settings.base_url}/{request.endpoint}"
        if item.kind == _CUSTOMER:
            address += "/ext_" + quote(item.body["customerId"], safe="")
        answer = await self._http.exchange(
            "PATCH" if item.kind == _CUSTOMER else "POST",
            address,
            {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"},
            request.body,
            settings.timeout_seconds,
        )
        answer = hide(answer, secret)
        verdict = judge(answer, self._clock.now_ms(), lambda answer: self._verdict(item, answer))
        return reply(answer, (verdict,))

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Nothing to close."""

    def _verdict(self, item: Item, answer: Answered) -> Verdict:
        said = json_object(answer.body)
        if not succeeded(answer.status):
            return self._failed(item, answer, said)
        match item.kind:
            case "lead":
                return _lead_taken(item, said)
            case "sale":
                return self._sale_taken(said)
            case _:
                return Done(Outcome.DELIVERED) if "id" in said else _unreadable()

    def _sale_taken(self, said: dict[str, Any]) -> Verdict:
        if "sale" not in said:
            return _unreadable()
        if said["sale"] is None:
            return self._wait("Dub knows no such customer")
        return Done(Outcome.DELIVERED)

    def _wait(self, detail: str) -> Again:
        """Let a sale wait: its lead may be on its way. Dub recorded nothing."""
        return Again(
            Reason.UNKNOWN_CUSTOMER,
            detail=detail,
            within_seconds=self._settings.unattributed_wait_seconds,
            then=Done(Outcome.UNATTRIBUTED, Reason.UNKNOWN_CUSTOMER, detail),
        )

    def _failed(self, item: Item, answer: Answered, said: dict[str, Any]) -> Verdict:
        message = _message(said)
        if answer.status == HTTPStatus.NOT_FOUND and message.startswith(_ABOUT_THE_EVENT):
            return self._not_found(item, message)
        # No click and nobody known under that id: nobody to attribute the lead to.
        if answer.status == HTTPStatus.BAD_REQUEST and item.body.get("clickId") == "":
            return Done(Outcome.UNATTRIBUTED, Reason.UNKNOWN_CUSTOMER, message)
        refused = Done(Outcome.DEAD, Reason.REFUSED, message or f"HTTP {answer.status}")
        return wrong_setting(answer) or refused

    def _not_found(self, item: Item, message: str) -> Verdict:
        match item.kind:
            case "lead":
                # Dub notes a lead before it looks up the click, and answers a second try with a
                # success that records nothing; so there is none.
                return Done(Outcome.DEAD, Reason.UNKNOWN_CLICK, message)
            case "sale":
                return self._wait(message)
            case _:
                return Done(Outcome.UNATTRIBUTED, Reason.UNKNOWN_CUSTOMER, message)


def _change(fields: dict[str, Any], key: str) -> Item | Skip:
    change = _known(
        {
            "name": fields.get("customerName"),
            "email": fields.get("customerEmail"),
            "avatar": fields.get("customerAvatar"),
            "country": fields.get("country"),
            "stripeCustomerId": fields.get("stripeCustomerId"),
        }
    )
    if not change:
        return Skip(Reason.NOTHING_TO_SEND)
    body = {"customerId": fields["customerId"], "change": change}
    return Item(_CUSTOMER, key, repeatable=True, body=body)


def _person(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: fields.get(name) for name in ("customerName", "customerEmail", "customerAvatar")}


def _known(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}


def _lead_taken(item: Item, said: dict[str, Any]) -> Verdict:
    """Read a lead's success. Without a link Dub had noted it before, and recorded nothing now.

    Whether it had recorded anything then, only our own earlier requests can tell. (dub.md 2, trap)
    """
    if "link" not in said:
        return _unreadable()
    if said["link"] is not None:
        return Done(Outcome.DELIVERED)
    if item.body["mode"] == "deferred":
        return Done(Outcome.DELIVERED, Reason.UNCONFIRMED, "Dub named no link")
    match item.tried:
        case Tried.NEVER:
            return Done(Outcome.DUPLICATE, Reason.ALREADY_KNOWN, "Dub has this lead already")
        case Tried.IN_DOUBT:
            detail = "an earlier request got no answer; Dub has this lead already"
            return Done(Outcome.DELIVERED, Reason.UNCONFIRMED, detail)
        case Tried.FAILED:
            detail = "an earlier request failed, and Dub takes this one for its repetition"
            return Done(Outcome.DEAD, Reason.UNCONFIRMED, detail)


def _unreadable() -> Again:
    return Again(Reason.NO_ANSWER, detail="a success without the answer that Dub documents")


def _message(said: dict[str, Any]) -> str:
    """Return the message of Dub's error envelope: `{"error": {"code", "message", "doc_url"}}`."""
    error = said.get("error")
    message = error.get("message") if isinstance(error, dict) else None
    return message[:_DETAIL_CHARACTERS] if isinstance(message, str) else ""
