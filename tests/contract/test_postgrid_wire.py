"""Every call of PostGrid's with every parameter: what goes out, by method, path, query and body.

The rows are written from the two documents and postgrid.md, 1, 3 and 4; a parameter that no row
sends fails the last test.
"""

from collections import defaultdict
from typing import Any, NamedTuple

import orjson
import pytest

from gateway.adapters.http_client import AiohttpClient
from gateway.adapters.postgrid.calls import CALLS
from gateway.adapters.postgrid.client import ROOT, PostGridClient
from gateway.adapters.postgrid.settings import PostgridSettings
from tests.contract.scripted import Scripted, status
from tests.sample import StoppedClock

KEY = "test_sk_sandbox"
ANSWER = {
    "id": "x_1",
    "type": "letter.created",
    "deleted": True,
    "limit": 10,
    "skip": 0,
    "totalCount": 0,
    "data": [],
}
"""Something of each sort of answer."""


class Row(NamedTuple):
    """A call with some parameters, and what is to go out."""

    call: str
    given: dict[str, Any]
    request: str
    """Method, path below the root, and query."""
    body: dict[str, Any] | None = None
    idempotency_key: str | None = None


TRACKER = {
    "redirect_url_template": "https://shop.example/?n={{to.firstName}}",
    "url_expire_after_days": 30,
    "description": "Autumn",
    "metadata": {"campaign": "a"},
}
TRACKER_BODY = {
    "redirectURLTemplate": "https://shop.example/?n={{to.firstName}}",
    "urlExpireAfterDays": 30,
    "description": "Autumn",
    "metadata": {"campaign": "a"},
}
PAGE = {"limit": 100, "skip": 200, "search": '"New York"'}
PAGE_QUERY = "limit=100&skip=200&search=%22New+York%22"
ORDER = {"kind": "postcards", "id": "postcard_1"}
ENVELOPE = {"kind": "return_envelope_orders", "return_envelope": "return_envelope_1"}
ENVELOPE_ORDER = {**ENVELOPE, "id": "return_envelope_order_1"}
UNDER = "/return_envelopes/return_envelope_1/orders"
CONTENT = {
    "size": "6x4",
    "html": "<p>",
    "template": "template_1",
    "pdf": "https://shop.example/a.pdf",
    "front_html": "<p>1",
    "back_html": "<p>2",
    "front_template": "template_2",
    "back_template": "template_3",
    "inside_html": "<p>3",
    "outside_html": "<p>4",
    "inside_template": "template_4",
    "outside_template": "template_5",
    "bank_account": "bank_1",
    "amount": 10_000,
    "memo": "A memo.",
    "number": 5049,
    "send_date": "2026-12-01",
    "description": "Certified Mail",
    "extra_service": "certified",
    "mailing_class": "first_class",
    "metadata": {"customerId": "u-1"},
    "merge_variables": {"mailReference": "m-1"},
}
CONTENT_BODY = {
    "size": "6x4",
    "html": "<p>",
    "template": "template_1",
    "pdf": "https://shop.example/a.pdf",
    "frontHTML": "<p>1",
    "backHTML": "<p>2",
    "frontTemplate": "template_2",
    "backTemplate": "template_3",
    "insideHTML": "<p>3",
    "outsideHTML": "<p>4",
    "insideTemplate": "template_4",
    "outsideTemplate": "template_5",
    "bankAccount": "bank_1",
    "amount": 10_000,
    "memo": "A memo.",
    "number": 5049,
    "sendDate": "2026-12-01",
    "description": "Certified Mail",
    "extraService": "certified",
    "mailingClass": "first_class",
    "metadata": {"customerId": "u-1"},
    "mergeVariables": {"mailReference": "m-1"},
}
WEBHOOK = {
    "url": "https://shop.example/h",
    "enabled_events": ("letter.created", "tracker.visited"),
    "payload_format": "json",
    "secret": "webhook_secret_0123456789",
    "description": "Gateway",
    "metadata": {"a": 1},
}
WEBHOOK_BODY = {
    "url": "https://shop.example/h",
    "enabledEvents": ["letter.created", "tracker.visited"],
    "payloadFormat": "json",
    "secret": "webhook_secret_0123456789",
    "description": "Gateway",
    "metadata": {"a": 1},
}
ROWS = [
    Row("trackers.create", TRACKER, "POST /trackers", TRACKER_BODY),
    *(
        Row(
            "trackers.create",
            {"redirect_url_template": "x", "url_expire_after_days": days},
            "POST /trackers",
            {"redirectURLTemplate": "x", "urlExpireAfterDays": days},
        )
        for days in (30, 60, 90, 180, 365)
    ),
    Row("trackers.list", {}, "GET /trackers"),
    Row("trackers.list", PAGE, f"GET /trackers?{PAGE_QUERY}"),
    Row("trackers.get", {"id": "tracker_1"}, "GET /trackers/tracker_1"),
    Row(
        "trackers.update",
        {"id": "tracker_1", **TRACKER},
        "POST /trackers/tracker_1",
        TRACKER_BODY,
    ),
    Row("trackers.delete", {"id": "tracker_1"}, "DELETE /trackers/tracker_1"),
    Row("visits.list", {"id": "tracker_1", **PAGE}, f"GET /trackers/tracker_1/visits?{PAGE_QUERY}"),
    *(
        Row(
            "orders.create",
            {"kind": kind, "to": "contact_1", "from_": {"city": "TORONTO"}, **CONTENT},
            f"POST /{kind}",
            {"to": "contact_1", "from": {"city": "TORONTO"}, **CONTENT_BODY},
        )
        for kind in ("letters", "postcards", "cheques")
    ),
    Row(
        "orders.create",
        {
            "kind": "letters",
            "to": {"firstName": "Kim"},
            "return_envelope": "return_envelope_1",
            "fields": {"color": True, "to": "what is said above counts"},
            "idempotency_key": "key-1",
        },
        "POST /letters",
        {"to": {"firstName": "Kim"}, "returnEnvelope": "return_envelope_1", "color": True},
        "key-1",
    ),
    *(
        Row("orders.create", {"kind": kind, "to": "c"}, f"POST /{kind}", {"to": "c"})
        for kind in (
            *("self_mailers", "self-mailers", "selfmailers"),
            *("snap_packs", "boxes", "what_they_add_next"),
        )
    ),
    Row(
        "orders.create",
        {**ENVELOPE, "quantity_ordered": 100},
        f"POST {UNDER}",
        {"quantityOrdered": 100},
    ),
    Row("orders.list", {"kind": "letters", **PAGE}, f"GET /letters?{PAGE_QUERY}"),
    Row(
        "orders.list",
        {"kind": "letters", "search": {"metadata.campaignID": "autumn"}},
        "GET /letters?search=%7B%22metadata.campaignID%22%3A%22autumn%22%7D",
    ),
    Row("orders.list", ENVELOPE, f"GET {UNDER}"),
    Row("orders.get", ORDER, "GET /postcards/postcard_1"),
    Row("orders.get", ENVELOPE_ORDER, f"GET {UNDER}/return_envelope_order_1"),
    Row("orders.cancel", ORDER, "DELETE /postcards/postcard_1"),
    Row("orders.cancel", ENVELOPE_ORDER, f"DELETE {UNDER}/return_envelope_order_1"),
    Row(
        "orders.cancel_with_note",
        {**ORDER, "note": "Wrong address"},
        "POST /postcards/postcard_1/cancellation",
        {"note": "Wrong address"},
    ),
    Row("orders.progress", ORDER, "POST /postcards/postcard_1/progressions"),
    Row("orders.progress", ENVELOPE_ORDER, f"POST {UNDER}/return_envelope_order_1/fills"),
    Row("webhooks.create", WEBHOOK, "POST /webhooks", WEBHOOK_BODY),
    Row("webhooks.list", PAGE, f"GET /webhooks?{PAGE_QUERY}"),
    Row("webhooks.get", {"id": "webhook_1"}, "GET /webhooks/webhook_1"),
    Row(
        "webhooks.update",
        {"id": "webhook_1", "enabled": False, **WEBHOOK},
        "POST /webhooks/webhook_1",
        {"enabled": False, **WEBHOOK_BODY},
    ),
    Row(
        "webhooks.update",
        {"id": "webhook_1", "payload_format": "jwt"},
        "POST /webhooks/webhook_1",
        {"payloadFormat": "jwt"},
    ),
    Row("webhooks.delete", {"id": "webhook_1"}, "DELETE /webhooks/webhook_1"),
    Row(
        "webhooks.invocations",
        {"id": "webhook_1", **PAGE},
        f"GET /webhooks/webhook_1/invocations?{PAGE_QUERY}",
    ),
    Row(
        "events.list",
        {"limit": 100, "skip": 200, "type": ("letter.created", "tracker.visited")},
        "GET /events?limit=100&skip=200&type=letter.created%2Ctracker.visited",
    ),
]


@pytest.mark.parametrize(
    "row", ROWS, ids=[f"{n} {row.call} {row.given.get('kind', '')}" for n, row in enumerate(ROWS)]
)
async def test_a_call_goes_out_as_documented(
    http: AiohttpClient, scripted: Scripted, row: Row
) -> None:
    scripted.expect(status(201, orjson.dumps(ANSWER)))
    settings = PostgridSettings.model_validate(
        {"kind": "postgrid", "site": "shop", "base_url": scripted.url, "api_key": KEY}
    )
    group, name = row.call.split(".")
    method = getattr(getattr(PostGridClient(settings, http, StoppedClock()), group), name)
    await method(method.call.params.model_validate(row.given))
    (got,) = scripted.got
    method_, _, path = row.request.partition(" ")
    assert (got.method, got.path) == (method_, f"{ROOT}{path}")
    assert got.headers["x-api-key"] == KEY
    assert (orjson.loads(got.body) if got.body else None) == row.body
    assert ("content-type" in got.headers) == (row.body is not None)
    creates_order = row.call == "orders.create"
    assert ("idempotency-key" in got.headers) == creates_order
    if row.idempotency_key:
        assert got.headers["idempotency-key"] == row.idempotency_key


def test_no_call_and_no_parameter_is_missing_above() -> None:
    sent: dict[str, set[str]] = defaultdict(set)
    for row in ROWS:
        sent[row.call] |= set(row.given)
    for group, calls in CALLS.items():
        for name, call in calls.items():
            fields = set(call.params.model_fields)
            if name == "cancel_with_note":
                fields -= {"return_envelope"}  # those orders cannot be cancelled so
            assert fields <= sent[f"{group}.{name}"], f"{group}.{name}"
