"""Dub's dialect of 2024: its names, and what its answers mean (dub.md, 1a)."""

from typing import Any

import orjson
import pytest

from gateway.adapters.destinations.dub.destination import DubDestination
from gateway.adapters.destinations.dub.settings import DubSettings
from gateway.model.attempt import Again, Answered, Done, Item, Skip, Tried, Unanswered, Verdict
from gateway.model.envelope import Envelope
from gateway.model.outcome import Outcome, Reason
from tests.sample import NOW_MS, StoppedClock, envelope

PERSON: dict[str, Any] = {
    "customerName": "Ann",
    "customerEmail": "ann@x.example",
    "customerAvatar": "https://x.example/a.png",
}
EVERY_EVENT = ["lead", "sale", "customer"]
LEAD = b'{"click": {"id": "c1"}, "customer": {"id": "u-1"}, "clickId": "c1", "customerId": "u-1"}'
SALE = b'{"eventName": "Purchase", "customer": {"id": "u-1"}, "sale": {"amount": 1}, "amount": 1}'
CUSTOMER = b'{"customerId": "u-1", "customerName": "Ann"}'


class OneAnswer:
    """An HttpClient that keeps the request and gives one answer."""

    def __init__(self, answer: Answered | Unanswered) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, bytes]] = []

    async def exchange(
        self, method: str, url: str, _headers: dict[str, str], body: bytes, _timeout: float
    ) -> Answered | Unanswered:
        self.asked.append((method, url, body))
        return self.answer


def dub(http: OneAnswer | None = None, **chosen: Any) -> DubDestination:
    given = {"kind": "dub", "api_key": "dub_k", "dialect": "2024", "payment_processor": "stripe"}
    settings = DubSettings.model_validate({**given, **chosen})
    return DubDestination(settings, http or OneAnswer(Answered(200, None, b"")), StoppedClock())


def item(event: Envelope, **chosen: Any) -> Item:
    made = dub(**chosen).prepare(event, NOW_MS)
    assert isinstance(made, Item)
    return made


async def verdict(made: Item, status: int, body: bytes, tried: Tried = Tried.NEVER) -> Verdict:
    destination = dub(OneAnswer(Answered(status, "1772446560000", body)))
    made.tried = tried
    (one,) = (await destination.send(destination.request([made]))).verdicts
    return one


async def said(
    made: Item, status: int, body: bytes, tried: Tried = Tried.NEVER
) -> tuple[Outcome | None, Reason | None]:
    """Return the outcome (None: again) and the reason."""
    one = await verdict(made, status, body, tried)
    return (one.outcome if isinstance(one, Done) else None), one.reason


def error(code: str, message: str) -> bytes:
    return orjson.dumps({"error": {"code": code, "message": message, "doc_url": "https://…"}})


# requests


@pytest.mark.parametrize(
    ("event", "path", "body"),
    [
        (
            envelope(
                "lead", mode="wait", eventQuantity=2, country="SE", metadata={"a": 1}, **PERSON
            ),
            "track/lead",
            {
                "clickId": "abcdefghijklmnop",
                "eventName": "Sign up",
                "customerId": "u-1",
                **PERSON,
                "metadata": {"a": 1},
            },
        ),
        (
            envelope("sale", leadEventName="Sign up", metadata={"a": 1}, **PERSON),
            "track/sale",
            {
                "customerId": "u-1",
                "amount": 4990,
                "paymentProcessor": "stripe",
                "eventName": "Purchase",
                "invoiceId": "o-77",
                "currency": "sek",
                "metadata": {"a": 1},
            },
        ),
        (
            envelope("sale", paymentProcessor="paddle", eventName="Renewal", invoiceId=None),
            "track/sale",
            {
                "customerId": "u-1",
                "amount": 4990,
                "paymentProcessor": "paddle",
                "eventName": "Renewal",
                "currency": "sek",
            },
        ),
        (
            envelope("customer", country="SE", stripeCustomerId="cus_9", **PERSON),
            "track/customer",
            {"customerId": "u-1", **PERSON},
        ),
    ],
)
async def test_each_event_has_the_names_and_the_path_of_2024_and_nothing_newer(
    event: Envelope, path: str, body: dict[str, Any]
) -> None:
    http = OneAnswer(Answered(200, None, b"{}"))
    destination = dub(http)
    request = destination.request([item(event)])
    await destination.send(request)
    ((method, url, sent),) = http.asked
    assert (method, url, orjson.loads(sent)) == ("POST", f"https://api.dub.co/{path}", body)
    assert request.endpoint == path


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (envelope("lead", {"customerId": "u-1"}), Reason.NO_CLICK),
        (envelope("lead", {}), Reason.NO_CUSTOMER),
        (envelope("lead", {}, consent="limited"), Reason.NO_CONSENT),
        (envelope("sale", amount=0), Reason.AMOUNT_ZERO),
        (envelope("customer", customerName=None, country="SE"), Reason.NOTHING_TO_SEND),
        (envelope("page"), Reason.NOTHING_TO_SEND),
    ],
)
def test_what_2024_has_no_request_for_is_skipped(event: Envelope, reason: Reason) -> None:
    assert dub().prepare(event, NOW_MS) == Skip(reason)


def test_in_doubt_leads_are_repeated_for_an_hour_customers_always_sales_never() -> None:
    found = {each: item(envelope(each)) for each in EVERY_EVENT}
    assert {each: made.repeatable for each, made in found.items()} == {
        "lead": True,
        "sale": False,
        "customer": True,
    }
    assert (found["lead"].repeatable_seconds or 0) < 3600
    assert found["customer"].repeatable_seconds is None


@pytest.mark.parametrize("processor", [None, "custom", "polar", "lemonsqueezy"])
def test_sales_need_one_of_the_three_processors_of_2024_as_a_setting(
    processor: str | None,
) -> None:
    chosen = {"kind": "dub", "api_key": "dub_k", "dialect": "2024"}
    if processor:
        chosen["payment_processor"] = processor
    with pytest.raises(ValueError, match=r"payment_processor[\s\S]*stripe"):
        DubSettings.model_validate(chosen)
    DubSettings.model_validate({**chosen, "dialect": "current"})


# answers


@pytest.mark.parametrize(
    ("event_type", "body"), [("lead", LEAD), ("sale", SALE), ("customer", CUSTOMER)]
)
async def test_a_success_of_2024_is_delivered_and_another_is_no_answer(
    event_type: str, body: bytes
) -> None:
    assert await said(item(envelope(event_type)), 200, body) == (Outcome.DELIVERED, None)
    assert await said(item(envelope(event_type)), 200, b"{}") == (None, Reason.NO_ANSWER)


REPEATED = error("rate_limit_exceeded", "Rate limit exceeded for customer u-1: Sign up")
TOO_MANY = error("rate_limit_exceeded", "Too many requests.")


@pytest.mark.parametrize(
    ("tried", "outcome", "reason"),
    [
        (Tried.NEVER, Outcome.DUPLICATE, Reason.ALREADY_KNOWN),
        (Tried.IN_DOUBT, Outcome.DELIVERED, Reason.UNCONFIRMED),
        (Tried.FAILED, Outcome.DEAD, Reason.UNCONFIRMED),
    ],
)
@pytest.mark.parametrize(
    ("status", "body"), [(429, REPEATED), (200, LEAD[:-1] + b', "link":null}')]
)
async def test_the_answer_to_a_repeated_lead_slows_nothing_and_means_what_we_know_of_it(
    tried: Tried, outcome: Outcome, reason: Reason, status: int, body: bytes
) -> None:
    """By 429 in 2024; by a missing link from today's server, which takes the old names too."""
    assert await said(item(envelope("lead")), status, body, tried) == (outcome, reason)


@pytest.mark.parametrize(
    ("event_type", "body"),
    [("lead", TOO_MANY), ("lead", b""), ("sale", REPEATED), ("customer", REPEATED)],
)
async def test_any_other_429_asks_for_less(event_type: str, body: bytes) -> None:
    again = await verdict(item(envelope(event_type)), 429, body)
    assert isinstance(again, Again)
    assert again.reason is Reason.RATE_LIMITED
    assert again.after_seconds == pytest.approx(60, abs=1)


async def test_a_lead_with_an_unknown_click_is_dead_at_once() -> None:
    body = error("not_found", "Click event not found for clickId: c1")
    made = await said(item(envelope("lead")), 404, body)
    assert made == (Outcome.DEAD, Reason.UNKNOWN_CLICK)


@pytest.mark.parametrize(
    ("message", "after_seconds"),
    [
        ("Customer not found for customerId: u-1", 1800),
        ("Lead event not found for customerId: cus_1", None),
    ],
)
async def test_a_sale_of_an_unknown_customer_or_without_a_lead_waits(
    message: str, after_seconds: float | None
) -> None:
    again = await verdict(item(envelope("sale")), 404, error("not_found", message))
    assert isinstance(again, Again)
    assert (again.reason, again.within_seconds) == (Reason.UNKNOWN_CUSTOMER, 3600)
    assert again.after_seconds == after_seconds
    assert again.then is not None
    assert again.then.outcome is Outcome.UNATTRIBUTED


@pytest.mark.parametrize("event_type", EVERY_EVENT)
async def test_what_is_over_a_limit_of_2024_is_refused_by_dub_and_kept_with_its_words(
    event_type: str,
) -> None:
    body = error("unprocessable_entity", "too_big: eventName: at most 50 character(s)")
    one = await verdict(item(envelope(event_type)), 422, body)
    assert one == Done(Outcome.DEAD, Reason.REFUSED, "too_big: eventName: at most 50 character(s)")
