"""Dub: what becomes of leads, sales and customers, and what its answers mean."""

from typing import Any

import orjson
import pytest

from gateway.adapters.destinations.dub.destination import DubDestination
from gateway.adapters.destinations.dub.settings import DubSettings
from gateway.adapters.destinations.dub.waiting import MOST_WAITING
from gateway.model.attempt import Again, Answered, Done, Item, Skip, Tried, Unanswered, Verdict
from gateway.model.envelope import Envelope
from gateway.model.outcome import Outcome, Reason
from tests.sample import NOW_MS, StoppedClock, envelope

LEAD = b'{"click": {"id": "c1"}, "link": {"id": "link_1"}, "customer": {"externalId": "u-1"}}'
LEAD_AGAIN = b'{"click": {"id": "c1"}, "link": null, "customer": {"externalId": "u-1"}}'
SALE = b'{"eventName": "Purchase", "customer": {"id": "cus_1"}, "sale": {"amount": 4990}}'
NO_SALE = b'{"eventName": "Purchase", "customer": null, "sale": null}'
CUSTOMER = {"customerId": "u-1"}


class OneAnswer:
    """An HttpClient that keeps the request and gives one answer."""

    def __init__(self, answer: Answered | Unanswered) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []

    async def exchange(
        self, method: str, url: str, headers: dict[str, str], body: bytes, timeout_seconds: float
    ) -> Answered | Unanswered:
        assert timeout_seconds == 10.0
        self.asked.append((method, url, headers, body))
        return self.answer


def dub(http: OneAnswer | None = None, **chosen: Any) -> DubDestination:
    http = http or OneAnswer(Answered(200, None, LEAD))
    settings = DubSettings.model_validate({"kind": "dub", "api_key": "dub_k", **chosen})
    return DubDestination(settings, http, StoppedClock())


def prepare(event: Envelope, **chosen: Any) -> Item | Skip:
    return dub(**chosen).prepare(event, NOW_MS)


def item(event: Envelope, **chosen: Any) -> Item:
    made = prepare(event, **chosen)
    assert isinstance(made, Item)
    return made


PERSON: dict[str, Any] = {
    "customerName": "Ann",
    "customerEmail": "ann@x.example",
    "customerAvatar": "https://x.example/a.png",
}


def test_a_lead_has_dubs_names_and_no_time() -> None:
    lead = envelope("lead", eventQuantity=2, mode="async", metadata={"plan": "pro"}, **PERSON)
    assert item(lead) == Item(
        "lead",
        key="shop/u-1",
        repeatable=True,
        body={
            "clickId": "abcdefghijklmnop",
            "eventName": "Sign up",
            "customerExternalId": "u-1",
            **PERSON,
            "mode": "async",
            "eventQuantity": 2,
            "metadata": {"plan": "pro"},
        },
        repeatable_seconds=600_000.0,
    )


def test_a_lead_without_a_click_leaves_it_to_the_customers() -> None:
    assert item(envelope("lead", CUSTOMER)).body["clickId"] == ""


def test_the_mode_is_the_events_then_the_setting_then_wait() -> None:
    assert item(envelope("lead")).body["mode"] == "wait"
    assert item(envelope("lead"), lead_mode="async").body["mode"] == "async"
    assert item(envelope("lead", mode="wait"), lead_mode="async").body["mode"] == "wait"


def test_a_deferred_lead_is_not_repeatable() -> None:
    assert not item(envelope("lead", mode="deferred")).repeatable
    assert not item(envelope("lead"), lead_mode="deferred").repeatable


def test_a_sale_has_dubs_names() -> None:
    sale = envelope(
        "sale", leadEventName="Sign up", eventName="Invoice paid", metadata={"a": 1}, **PERSON
    )
    assert item(sale) == Item(
        "sale",
        key="shop/u-1",
        repeatable=True,
        body={
            "customerExternalId": "u-1",
            "amount": 4990,
            "currency": "sek",
            "eventName": "Invoice paid",
            "paymentProcessor": "custom",
            "invoiceId": "o-77",
            "leadEventName": "Sign up",
            "clickId": "abcdefghijklmnop",
            **PERSON,
            "metadata": {"a": 1},
        },
        repeatable_seconds=600_000.0,
        unanswered_wait_seconds=60.0,
    )


def test_a_sale_leaves_out_what_it_does_not_know() -> None:
    assert item(envelope("sale", CUSTOMER)).body == {
        "customerExternalId": "u-1",
        "amount": 4990,
        "currency": "sek",
        "eventName": "Purchase",
        "paymentProcessor": "custom",
        "invoiceId": "o-77",
    }


def test_a_sale_without_an_invoice_is_not_repeatable() -> None:
    assert not item(envelope("sale", invoiceId=None)).repeatable


def test_the_payment_processor_is_the_events_then_the_setting() -> None:
    sale = envelope("sale")
    assert item(sale, payment_processor="stripe").body["paymentProcessor"] == "stripe"
    shopify = envelope("sale", paymentProcessor="shopify")
    assert item(shopify, payment_processor="stripe").body["paymentProcessor"] == "shopify"


def test_a_sale_of_nothing_is_skipped() -> None:
    assert prepare(envelope("sale", amount=0)) == Skip(Reason.AMOUNT_ZERO)


def test_a_customer_is_changed_and_nothing_else_of_it() -> None:
    customer = envelope("customer", country="se", stripeCustomerId="cus_9", **PERSON)
    made = item(customer)
    assert (made.kind, made.key, made.repeatable) == ("customer", "shop/u-1", True)
    assert made.repeatable_seconds is None
    assert orjson.loads(dub().request([made]).body) == {
        "name": "Ann",
        "email": "ann@x.example",
        "avatar": "https://x.example/a.png",
        "country": "SE",
        "stripeCustomerId": "cus_9",
    }


def test_a_customer_with_nothing_to_change_is_skipped() -> None:
    assert prepare(envelope("customer", customerName=None)) == Skip(Reason.NOTHING_TO_SEND)


@pytest.mark.parametrize("event_type", ["lead", "sale", "customer"])
def test_without_a_customer_nothing_is_sent_and_consent_is_named_where_it_is_the_cause(
    event_type: str,
) -> None:
    assert prepare(envelope(event_type, {})) == Skip(Reason.NO_CUSTOMER)
    assert prepare(envelope(event_type, {}, consent="limited")) == Skip(Reason.NO_CONSENT)


def test_all_of_one_customer_is_in_order() -> None:
    kinds = [item(envelope(each)) for each in ("lead", "sale", "customer")]
    assert {each.key for each in kinds} == {"shop/u-1"}


def test_other_events_are_nothing_to_send() -> None:
    assert prepare(envelope("page")) == Skip(Reason.NOTHING_TO_SEND)


# requests


@pytest.mark.parametrize(
    ("event_type", "method", "path"),
    [
        ("lead", "POST", "/track/lead"),
        ("sale", "POST", "/track/sale"),
        ("customer", "PATCH", "/customers/ext_u-1"),
    ],
)
async def test_each_kind_has_its_path(event_type: str, method: str, path: str) -> None:
    http = OneAnswer(Answered(200, None, LEAD))
    await verdict(http, item(envelope(event_type)))
    asked = http.asked[0]
    assert asked[:2] == (method, f"https://api.dub.co{path}")
    assert asked[2] == {"Authorization": "Bearer dub_k", "Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("customer", "path"),
    [
        ("a/../b?c#d", "ext_a%2F..%2Fb%3Fc%23d"),
        ("å %", "ext_%C3%A5%20%25"),
        ("guest:o-77", "ext_guest%3Ao-77"),
    ],
)
async def test_a_customers_id_cannot_leave_its_place_in_the_path(customer: str, path: str) -> None:
    http = OneAnswer(Answered(200, None, b"{}"))
    await verdict(http, item(envelope("customer", {"customerId": customer})))
    assert http.asked[0][1] == f"https://api.dub.co/customers/{path}"


# answers


async def verdict(http: OneAnswer, made: Item, tried: Tried = Tried.NEVER) -> Verdict:
    destination = dub(http)
    made.tried = tried
    (one,) = (await destination.send(destination.request([made]))).verdicts
    return one


async def said(
    made: Item, status: int, body: bytes, tried: Tried = Tried.NEVER
) -> tuple[Any, Reason | None]:
    """Return the outcome (None: again) and the reason."""
    one = await verdict(OneAnswer(Answered(status, None, body)), made, tried)
    return (one.outcome if isinstance(one, Done) else None), one.reason


def error(code: str, message: str) -> bytes:
    return orjson.dumps({"error": {"code": code, "message": message, "doc_url": "https://…"}})


@pytest.mark.parametrize(
    ("tried", "outcome", "reason"),
    [
        (Tried.NEVER, Outcome.DUPLICATE, Reason.ALREADY_KNOWN),
        (Tried.IN_DOUBT, Outcome.DELIVERED, Reason.UNCONFIRMED),
        (Tried.FAILED, Outcome.DEAD, Reason.UNCONFIRMED),
    ],
)
async def test_what_a_lead_without_a_link_means_depends_on_our_own_earlier_requests(
    tried: Tried, outcome: Outcome, reason: Reason
) -> None:
    assert await said(item(envelope("lead")), 200, LEAD_AGAIN, tried) == (outcome, reason)
    assert await said(item(envelope("lead")), 200, LEAD, tried) == (Outcome.DELIVERED, None)


async def test_a_deferred_lead_is_no_duplicate_for_want_of_a_link() -> None:
    deferred = item(envelope("lead", mode="deferred"))
    assert await said(deferred, 200, LEAD) == (Outcome.DELIVERED, None)
    assert await said(deferred, 200, LEAD_AGAIN) == (Outcome.DELIVERED, Reason.UNCONFIRMED)


@pytest.mark.parametrize(
    "message",
    [
        "Click event not found for clickId: c1",
        "Link not found for clickId: c1",
        "Link for clickId c1 does not belong to the workspace",
    ],
)
async def test_a_lead_with_an_unknown_click_is_dead_at_once(message: str) -> None:
    made = await said(item(envelope("lead")), 404, error("not_found", message))
    assert made == (Outcome.DEAD, Reason.UNKNOWN_CLICK)


async def test_a_lead_without_click_of_somebody_unknown_is_unattributed() -> None:
    message = "The `clickId` property was not provided in the request, and no existing customer"
    lead = item(envelope("lead", CUSTOMER))
    made = await said(lead, 400, error("bad_request", message))
    assert made == (Outcome.UNATTRIBUTED, Reason.UNKNOWN_CUSTOMER)
    with_click = item(envelope("lead"))
    assert await said(with_click, 400, error("bad_request", "no")) == (Outcome.DEAD, Reason.REFUSED)


@pytest.mark.parametrize(
    ("status", "body", "after_seconds"),
    [
        (200, NO_SALE, 1800),
        # The customer is known: the lead is a matter of seconds, so by the backoff.
        (404, error("not_found", "Lead event not found for externalId: u-1"), None),
        (404, error("not_found", "Click event not found for clickId: c1"), 1800),
        (404, error("not_found", "Link not found for customer u-1"), 1800),
    ],
)
async def test_a_sale_that_nobody_can_be_credited_with_waits_an_hour_for_its_lead(
    status: int, body: bytes, after_seconds: float | None
) -> None:
    again = await verdict(OneAnswer(Answered(status, None, body)), item(envelope("sale")))
    assert isinstance(again, Again)
    assert (again.reason, again.after_seconds) == (Reason.UNKNOWN_CUSTOMER, after_seconds)
    assert again.within_seconds == 3600
    assert again.then is not None
    assert again.then.outcome is Outcome.UNATTRIBUTED
    assert again.then.reason is Reason.UNKNOWN_CUSTOMER


async def test_the_more_sales_wait_the_shorter_and_never_too_many_at_once() -> None:
    destination = dub(OneAnswer(Answered(200, None, NO_SALE)))

    async def told_to_wait(sale: Item) -> float:
        (again,) = (await destination.send(destination.request([sale]))).verdicts
        assert isinstance(again, Again)
        assert again.within_seconds is not None
        return again.within_seconds

    def sale(number: int) -> Item:
        return item(envelope("sale", {"customerId": f"u-{number}"}))

    waiting = [sale(number) for number in range(MOST_WAITING)]
    times = [await told_to_wait(each) for each in waiting]
    assert set(times[: MOST_WAITING // 2]) == {3600}
    assert sorted(times, reverse=True) == times
    assert 0 < times[-1] < 10
    assert await told_to_wait(waiting[0]) == times[-1], "a sale counts once"
    assert await told_to_wait(sale(-1)) == 0, "so it is unattributed at once"
    del waiting[MOST_WAITING // 2 :]
    assert await told_to_wait(sale(-2)) == 3600, "those that have their outcome make room"


async def test_a_sale_taken_is_delivered() -> None:
    assert await said(item(envelope("sale")), 200, SALE) == (Outcome.DELIVERED, None)


async def test_a_change_made_is_delivered() -> None:
    assert await said(item(envelope("customer")), 200, b'{"id": "cus_1"}') == (
        Outcome.DELIVERED,
        None,
    )


async def test_a_change_of_somebody_unknown_is_unattributed() -> None:
    body = error("not_found", "Customer not found. Make sure you're using the correct ID.")
    made = await said(item(envelope("customer")), 404, body)
    assert made == (Outcome.UNATTRIBUTED, Reason.UNKNOWN_CUSTOMER)


@pytest.mark.parametrize("event_type", ["lead", "sale", "customer"])
@pytest.mark.parametrize(
    "body",
    [
        b"404 page not found",
        b'{"error": "Click "}',
        error("not_found", "Workspace id not found. Did you forget a `workspaceId`?"),
    ],
)
async def test_a_404_of_another_kind_buries_nothing(event_type: str, body: bytes) -> None:
    assert await said(item(envelope(event_type)), 404, body) == (None, Reason.UNAUTHORIZED)


@pytest.mark.parametrize("event_type", ["lead", "sale", "customer"])
async def test_a_refusal_keeps_dubs_first_message_bounded(event_type: str) -> None:
    body = error("unprocessable_entity", "too_big: eventName: " + "x" * 5000)
    one = await verdict(OneAnswer(Answered(422, None, body)), item(envelope(event_type)))
    assert isinstance(one, Done)
    assert (one.outcome, one.reason) == (Outcome.DEAD, Reason.REFUSED)
    assert one.detail.startswith("too_big: eventName")
    assert len(one.detail) == 500


@pytest.mark.parametrize("event_type", ["lead", "sale", "customer"])
@pytest.mark.parametrize(
    ("status", "code"),
    [(409, "invite_pending"), (410, "invite_expired"), (410, "x"), (403, "exceeded_limit")],
)
async def test_an_error_that_speaks_of_the_account_buries_nothing(
    event_type: str, status: int, code: str
) -> None:
    made = await said(item(envelope(event_type)), status, error(code, "Ask the owner"))
    assert made == (None, Reason.UNAUTHORIZED)


@pytest.mark.parametrize("event_type", ["lead", "sale", "customer"])
@pytest.mark.parametrize(
    ("status", "retry_after", "after_seconds"),
    [
        (500, str(NOW_MS + 50_000), None),
        (502, str(NOW_MS + 50_000), None),
        (403, str(NOW_MS + 50_000), None),
        (429, str(NOW_MS + 50_000), 50),
        (503, "30", 30),
        (503, str(NOW_MS // 1000 + 30), 30),
    ],
)
async def test_the_end_of_the_rate_limits_minute_on_other_errors_is_no_reason_to_wait(
    event_type: str, status: int, retry_after: str, after_seconds: float | None
) -> None:
    http = OneAnswer(Answered(status, retry_after, b""))
    again = await verdict(http, item(envelope(event_type)))
    assert isinstance(again, Again)
    expected = None if after_seconds is None else pytest.approx(after_seconds, abs=1)
    assert again.after_seconds == expected


@pytest.mark.parametrize(
    ("retry_after", "after_seconds"),
    [
        (str(NOW_MS + 50_000), 50),
        (str(NOW_MS - 70_000), 5),
        (str(NOW_MS + 3_600_000), 60),
        ("90", 90),
        ("0", 5),
        (None, 5),
    ],
)
async def test_a_clock_that_differs_from_dubs_neither_hammers_nor_stops_it(
    retry_after: str | None, after_seconds: float
) -> None:
    again = await verdict(OneAnswer(Answered(429, retry_after, b"")), item(envelope("lead")))
    assert isinstance(again, Again)
    assert again.reason is Reason.RATE_LIMITED
    assert again.after_seconds == pytest.approx(after_seconds, abs=0.2)


async def test_a_conflict_is_a_refusal() -> None:
    made = await said(item(envelope("customer")), 409, error("conflict", "already exists"))
    assert made == (Outcome.DEAD, Reason.REFUSED)


@pytest.mark.parametrize(
    "chosen", [{"dialect": "2023"}, {"batch_events": 2}, {"events": ["cart"]}, {"api_key": " "}]
)
def test_settings_that_dub_cannot_follow_are_refused(chosen: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(chosen))):
        dub(**chosen)
