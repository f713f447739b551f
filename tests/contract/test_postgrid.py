"""The PostGrid client against its strict stand-in: every call, every parameter, every error."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession, web

from gateway.adapters.http_client import AiohttpClient
from gateway.adapters.postgrid.answers import Invocation, Order, Tracker, Visit, Webhook
from gateway.adapters.postgrid.calls import CALLS, Listing
from gateway.adapters.postgrid.client import ANSWER_BYTES, ROOT, PostGridClient, Waiting
from gateway.adapters.postgrid.errors import (
    InDoubtError,
    InvalidRequestError,
    KeyRefusedError,
    NoSuchThingError,
    NotPossibleError,
    PostGridError,
    RefusedError,
    TooManyRequestsError,
    UnavailableError,
    UnreachableError,
    UnreadableAnswerError,
)
from gateway.adapters.postgrid.params import (
    EventsOfTypes,
    OfId,
    OrderFields,
    OrderNote,
    OrderOfId,
    OrdersSearched,
    Searched,
    SearchedOfId,
    TrackerFields,
    TrackerUpdate,
    WebhookFields,
    WebhookUpdate,
)
from gateway.adapters.postgrid.settings import PostgridSettings
from gateway.sandbox.postgrid import POSTGRID, create_postgrid
from gateway.sandbox.postgrid_account import Account, PostgridSandbox
from tests.contract.scripted import Scripted, hang_up, status
from tests.sample import StoppedClock

Make = Callable[..., PostGridClient]
TEMPLATE = "https://shop.example/?vtid={{contactId}}&mail_ref={{mailReference}}"


@pytest.fixture
async def stand_in(tmp_path: Path) -> AsyncIterator[tuple[Account, str]]:
    app = create_postgrid(PostgridSandbox(retry_seconds=()), tmp_path)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield app[POSTGRID], f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.fixture
def account(stand_in: tuple[Account, str]) -> Account:
    return stand_in[0]


@pytest.fixture
async def big() -> AsyncIterator[AiohttpClient]:
    client = AiohttpClient(answer_bytes=ANSWER_BYTES)
    await client.start()
    yield client
    await client.stop()


@pytest.fixture
def make(big: AiohttpClient) -> Make:
    def made(
        url: str,
        key: str = "test_sk_sandbox",
        patience_seconds: float = 0.0,
        waiting: Waiting | None = None,
    ) -> PostGridClient:
        chosen = {
            "kind": "postgrid",
            "site": "shop",
            "base_url": url,
            "api_key": key,
            "rate_per_second": 1000.0,
            "timeout_seconds": 5.0,
        }
        settings = PostgridSettings.model_validate(chosen)
        return PostGridClient(
            settings, big, StoppedClock(), patience_seconds=patience_seconds, waiting=waiting
        )

    return made


@pytest.fixture
def client(make: Make, stand_in: tuple[Account, str]) -> PostGridClient:
    return make(stand_in[1])


@pytest.fixture
def live(make: Make, stand_in: tuple[Account, str]) -> PostGridClient:
    return make(stand_in[1], key="live_sk_sandbox")


async def tracker(client: PostGridClient, **more: Any) -> Tracker:
    fields = {"redirect_url_template": TEMPLATE, "url_expire_after_days": 90, **more}
    return await client.trackers.create(TrackerFields.model_validate(fields))


async def letter(client: PostGridClient, **more: Any) -> Order:
    fields = {"kind": "letters", "to": "contact_1", "from_": "contact_2", "html": "<p>", **more}
    return await client.orders.create(OrderFields.model_validate(fields))


async def webhook(client: PostGridClient, **more: Any) -> Webhook:
    fields = {"url": "https://shop.example/h", "enabled_events": ("letter.created",), **more}
    return await client.webhooks.create(WebhookFields.model_validate(fields))


# The table


def test_the_table_holds_every_call_of_the_documents() -> None:
    """postgrid.md, 1, 3 and 4; of orders the three kinds of path are `{kind}`."""
    assert {
        f"{call.method} {call.path}" for calls in CALLS.values() for call in calls.values()
    } == {
        "POST /trackers",
        "GET /trackers",
        "GET /trackers/{id}",
        "POST /trackers/{id}",
        "DELETE /trackers/{id}",
        "GET /trackers/{id}/visits",
        "POST /{kind}",
        "GET /{kind}",
        "GET /{kind}/{id}",
        "DELETE /{kind}/{id}",
        "POST /{kind}/{id}/cancellation",
        "POST /{kind}/{id}/progressions",
        "POST /webhooks",
        "GET /webhooks",
        "GET /webhooks/{id}",
        "POST /webhooks/{id}",
        "DELETE /webhooks/{id}",
        "GET /webhooks/{id}/invocations",
        "GET /events",
    }


def test_every_listing_is_paged_and_all_but_events_can_be_searched() -> None:
    for calls in CALLS.values():
        for call in calls.values():
            names = set(call.params.model_fields)
            assert ({"limit", "skip"} <= names) == isinstance(call, Listing)
            assert ("search" in names) == (isinstance(call, Listing) and call.group != "events")


# Trackers and visits


async def test_a_tracker_has_every_field_of_the_document(client: PostGridClient) -> None:
    made = await tracker(client, description="Autumn", metadata={"campaign": "a", "none": None})
    assert set(made.wire()) == {
        "id",
        "object",
        "live",
        "redirectURLTemplate",
        "urlExpireAfterDays",
        "visitCount",
        "uniqueVisitCount",
        "createdAt",
        "updatedAt",
        "description",
        "metadata",
    }
    assert made.id.startswith("tracker_")
    assert (made.live, made.redirect_url_template, made.url_expire_after_days) == (
        False,
        TEMPLATE,
        90,
    )
    assert (made.visit_count, made.unique_visit_count, made.description) == (0, 0, "Autumn")
    assert made.metadata == {"campaign": "a", "none": None}
    assert await client.trackers.get(OfId(id=made.id)) == made


async def test_a_tracker_is_updated_by_post_and_deleted(client: PostGridClient) -> None:
    made = await tracker(client)
    changed = await client.trackers.update(
        TrackerUpdate(
            id=made.id,
            redirect_url_template="https://shop.example/new",
            url_expire_after_days=365,
            description="New",
            metadata={"a": 1},
        )
    )
    assert (changed.id, changed.redirect_url_template) == (made.id, "https://shop.example/new")
    assert (changed.url_expire_after_days, changed.description) == (365, "New")
    gone = await client.trackers.delete(OfId(id=made.id))
    assert gone.wire() == {"id": made.id, "object": "tracker", "deleted": True}
    with pytest.raises(NoSuchThingError):
        await client.trackers.get(OfId(id=made.id))


async def test_listings_take_limit_skip_and_both_sorts_of_search(client: PostGridClient) -> None:
    made = [await tracker(client, metadata={"number": n}, description=f"no {n}.") for n in range(5)]
    page = await client.trackers.list(Searched(limit=2, skip=1))
    assert (page.limit, page.skip, page.total_count) == (2, 1, 5)
    assert [row.id for row in page.data] == [made[3].id, made[2].id]
    assert (await client.trackers.list(Searched())).limit == 10
    for search in ('"no 3."', "no 3.", {"metadata.number": 3}, '{"metadata.number":3}'):
        found = await client.trackers.list(Searched(search=search))
        assert [row.id for row in found.data] == [made[3].id], search


async def test_a_visit_has_every_field_of_the_document(
    client: PostGridClient, account: Account
) -> None:
    made, piece = await tracker(client), await letter(client)
    account.visit(
        account.trackers[made.id], account.orders[piece.id], "Device Unknown", "Unknown IP Address"
    )
    page = await client.visits.list(SearchedOfId(id=made.id, limit=100, skip=0, search="letter_"))
    (visit,) = page.data
    assert set(visit.wire()) == {
        "id",
        "object",
        "live",
        "tracker",
        "orderID",
        "device",
        "ipAddress",
        "createdAt",
        "updatedAt",
    }
    assert (visit.tracker, visit.order_id) == (made.id, piece.id)
    assert (visit.device, visit.ip_address) == ("Device Unknown", "Unknown IP Address")
    assert (await client.trackers.get(OfId(id=made.id))).visit_count == 1


# Orders

ORDERS: dict[str, dict[str, Any]] = {
    "letters": {"from_": "contact_2", "html": "<p>", "extra_service": "certified"},
    "postcards": {"size": "6x4", "front_template": "template_1", "back_template": "template_2"},
    "cheques": {"from_": "contact_2", "bank_account": "bank_1", "amount": 10_000},
    "self_mailers": {
        "from_": "contact_2",
        "size": "8.5x11_bifold",
        "inside_html": "<p>",
        "outside_html": "<p>",
    },
    "snap_packs": {"fields": {"insideHTML": "<p>", "outsideHTML": "<p>"}},
    "boxes": {"fields": {"cheques": [{"amount": 1}]}},
}


@pytest.mark.parametrize("kind", [*ORDERS, "self-mailers", "selfmailers"])
async def test_every_kind_of_order_is_made_listed_shown_progressed_and_cancelled(
    client: PostGridClient, kind: str
) -> None:
    own = ORDERS.get(kind, ORDERS["self_mailers"])
    fields = {
        "kind": kind,
        "to": {"firstName": "Kim", "addressLine1": "1 Example Street"},
        "metadata": {"customerId": "u-1"},
        "merge_variables": {"mailReference": "m-1"},
        "mailing_class": "first_class",
        "send_date": "2026-12-01T00:00:00.000Z",
        "description": "One",
        **own,
    }
    made = await client.orders.create(OrderFields.model_validate(fields))
    assert (made.status, made.live, made.metadata) == ("ready", False, {"customerId": "u-1"})
    assert (made.mailing_class, made.send_date, made.description) == (
        "first_class",
        "2026-12-01T00:00:00.000Z",
        "One",
    )
    assert made.wire()["mergeVariables"] == {"mailReference": "m-1"}
    here = OrderOfId(kind=kind, id=made.id)
    assert await client.orders.get(here) == made
    assert await client.find_order(made.id) == made
    page = await client.orders.list(
        OrdersSearched(kind=kind, limit=1, skip=0, search={"metadata.customerId": "u-1"})
    )
    assert [row.id for row in page.data] == [made.id]
    seen = [(await client.orders.progress(here)).status for _ in range(3)]
    assert seen == ["printing", "processed_for_delivery", "completed"]
    with pytest.raises(NotPossibleError) as caught:
        await client.orders.progress(here)
    assert caught.value.kind == "invalid_progression_error"
    other = await client.orders.create(OrderFields.model_validate(fields))
    gone = await client.orders.cancel(OrderOfId(kind=kind, id=other.id))
    assert gone.status == "cancelled"
    assert gone.cancellation is not None
    assert gone.cancellation["reason"] == "user_initiated"


async def test_orders_of_a_return_envelope_are_made_listed_shown_filled_and_cancelled(
    client: PostGridClient,
) -> None:
    whose = {"kind": "return_envelope_orders", "return_envelope": "return_envelope_1"}
    fields = OrderFields.model_validate({**whose, "quantity_ordered": 100})
    made = await client.orders.create(fields)
    assert (made.object, made.status) == ("return_envelope_order", "placed")
    assert made.wire()["quantityOrdered"] == 100
    here = OrderOfId.model_validate({**whose, "id": made.id})
    assert await client.orders.get(here) == made
    rows = [row async for row in client.orders.list.each(OrdersSearched.model_validate(whose))]
    assert rows == [made]
    assert (await client.orders.progress(here)).status == "filled"
    for too_late in (client.orders.progress(here), client.orders.cancel(here)):
        with pytest.raises(NotPossibleError):
            await too_late
    other = await client.orders.create(fields)
    gone = await client.orders.cancel(OrderOfId.model_validate({**whose, "id": other.id}))
    assert gone.status == "cancelled"
    elsewhere = {**whose, "return_envelope": "return_envelope_2", "id": made.id}
    with pytest.raises(NoSuchThingError):
        await client.orders.get(OrderOfId.model_validate(elsewhere))
    with pytest.raises(NoSuchThingError):
        await client.find_order(made.id)
    with pytest.raises(InvalidRequestError):
        await client.orders.create(OrderFields.model_validate(whose))


async def test_cancelling_with_a_note_keeps_the_note(client: PostGridClient) -> None:
    made = await letter(client)
    gone = await client.orders.cancel_with_note(
        OrderNote(kind="letters", id=made.id, note="Wrong address")
    )
    assert gone.cancellation is not None
    assert gone.cancellation["note"] == "Wrong address"
    with pytest.raises(NotPossibleError):
        await client.orders.cancel(OrderOfId(kind="letters", id=made.id))


@pytest.mark.parametrize("service", ["certified", "certified_return_receipt", "registered"])
async def test_an_extra_service_gives_a_tracking_number_once_it_is_processed(
    client: PostGridClient, service: str
) -> None:
    made = await letter(client, extra_service=service)
    here = OrderOfId(kind="letters", id=made.id)
    assert made.extra_service == service
    await client.orders.progress(here)
    assert (await client.orders.progress(here)).tracking_number


async def test_an_order_made_twice_with_one_key_is_made_once(
    client: PostGridClient, account: Account
) -> None:
    first = await letter(client, idempotency_key="key-1")
    assert await letter(client, idempotency_key="key-1") == first
    await letter(client)
    await letter(client)
    assert len(account.orders) == 3


async def test_an_order_is_found_whatever_its_id_says(
    client: PostGridClient, account: Account
) -> None:
    """The document's visit names `order_…`, which tells no kind."""
    made = await letter(client)
    account.orders["order_1"] = {**account.orders[made.id], "id": "order_1"}
    assert (await client.find_order("order_1")).object == "letter"
    with pytest.raises(NoSuchThingError):
        await client.find_order("order_2")


# Webhooks and events


async def test_a_webhook_is_made_with_every_field_changed_and_deleted(
    client: PostGridClient,
) -> None:
    made = await webhook(
        client,
        payload_format="json",
        secret="webhook_secret_0123456789",
        description="Gateway",
        metadata={"a": 1},
    )
    assert set(made.wire()) == {
        "id",
        "object",
        "live",
        "url",
        "enabled",
        "enabledEvents",
        "payloadFormat",
        "secret",
        "description",
        "metadata",
        "createdAt",
        "updatedAt",
    }
    assert (made.payload_format, made.secret, made.enabled) == (
        "json",
        "webhook_secret_0123456789",
        True,
    )
    changed = await client.webhooks.update(
        WebhookUpdate(
            id=made.id,
            url="https://shop.example/other",
            enabled=False,
            enabled_events=("tracker.visited",),
            payload_format="jwt",
            secret="webhook_secret_9876543210",
            description="Other",
            metadata={},
        )
    )
    assert (changed.url, changed.enabled, changed.enabled_events) == (
        "https://shop.example/other",
        False,
        ["tracker.visited"],
    )
    assert await client.webhooks.get(OfId(id=made.id)) == changed
    found = await client.webhooks.list(Searched(limit=10, skip=0, search="Other"))
    assert [row.id for row in found.data] == [made.id]
    assert (await client.webhooks.delete(OfId(id=made.id))).deleted
    assert (await client.webhooks.list(Searched())).data == []


async def test_a_webhook_has_the_documented_defaults(client: PostGridClient) -> None:
    made = await webhook(client)
    assert made.payload_format == "jwt"
    assert (made.secret or "").startswith("webhook_secret_")


async def test_invocations_and_events_are_listed(
    client: PostGridClient, scripted: Scripted, account: Account
) -> None:
    scripted.expect(status(200), status(200))
    events = ("letter.created", "letter.updated")
    made = await webhook(client, url=f"{scripted.url}/h", enabled_events=events)
    piece = await letter(client)
    await client.orders.progress(OrderOfId(kind="letters", id=piece.id))
    while len(account.invocations) < 2:
        await scripted.arrived.wait()
        await client.events.list(EventsOfTypes())
    page = await client.webhooks.invocations(
        SearchedOfId(id=made.id, limit=100, skip=0, search="webhook_invocation")
    )
    assert {row.type for row in page.data} == set(events)
    assert {(row.webhook, row.order_id, row.status_code) for row in page.data} == {
        (made.id, piece.id, 200)
    }
    both = await client.events.list(EventsOfTypes(limit=100, skip=0, type=events))
    assert {row.id for row in both.data} == {row.event for row in page.data}
    (created,) = (await client.events.list(EventsOfTypes(type=("letter.created",)))).data
    assert created.data is not None
    assert Order.model_validate(created.data).id == piece.id


# Errors


async def test_the_documented_validation_errors_keep_type_and_message(
    client: PostGridClient,
) -> None:
    wrong = [
        letter(client, html=None),
        letter(client, mailing_class="pigeon"),
        letter(client, fields={"nonsense": 1}),
        webhook(client, url="http://shop.example/h"),
        webhook(client, enabled_events=("letter.delivered",)),
        client.orders.create(OrderFields(kind="postcards", to="contact_1")),
        client.orders.create(OrderFields(kind="cheques", to="contact_1", from_="contact_2")),
    ]
    for call in wrong:
        with pytest.raises(InvalidRequestError) as caught:
            await call
        assert (caught.value.status, caught.value.kind) == (400, "validation_error")
        assert caught.value.message


async def test_a_wrong_key_is_refused_and_shown_nowhere(
    make: Make, stand_in: tuple[Account, str]
) -> None:
    with pytest.raises(KeyRefusedError) as caught:
        await make(stand_in[1], key="test_sk_wrong").trackers.list(Searched())
    assert (caught.value.status, caught.value.kind) == (401, "missing_auth_error")
    assert "test_sk_wrong" not in str(caught.value)


async def test_a_key_sees_only_its_own_mode(client: PostGridClient, live: PostGridClient) -> None:
    made, order = await tracker(live), await letter(live)
    assert (made.live, order.live) == (True, True)
    assert not (await client.trackers.list(Searched())).data
    assert not (await client.orders.list(OrdersSearched(kind="letters"))).data
    with pytest.raises(NoSuchThingError):
        await client.trackers.get(OfId(id=made.id))
    with pytest.raises(NotPossibleError):
        await live.orders.progress(OrderOfId(kind="letters", id=order.id))


def refused(code: int, kind: str, **headers: str) -> Any:
    body = orjson.dumps({"object": "error", "error": {"type": kind, "message": "Said so."}})
    return status(code, body, **headers)


@pytest.mark.parametrize(
    ("code", "kind", "error"),
    [
        (400, "validation_error", InvalidRequestError),
        (401, "missing_auth_error", KeyRefusedError),
        (401, "permission_missing_error", KeyRefusedError),
        (403, "permission_missing_error", KeyRefusedError),
        (404, "not_found_error", NoSuchThingError),
        (422, "any_type_at_all", NotPossibleError),
        (422, "validation_error", InvalidRequestError),
        (429, "rate_limit_exceeded_error", TooManyRequestsError),
        (500, "internal_error", UnavailableError),
        (503, "service_unavailable_error", UnavailableError),
    ],
)
async def test_every_documented_error_has_its_type(
    make: Make, scripted: Scripted, code: int, kind: str, error: type[RefusedError]
) -> None:
    scripted.expect(refused(code, kind))
    with pytest.raises(error) as caught:
        await make(scripted.url).trackers.list(Searched())
    assert (caught.value.status, caught.value.kind, caught.value.message) == (
        code,
        kind,
        "Said so.",
    )
    assert caught.value.may_pass == (code == 429 or code >= 500)


async def test_an_error_without_the_outer_object_or_with_none_at_all_is_read(
    make: Make, scripted: Scripted
) -> None:
    inner = orjson.dumps({"error": {"type": "not_found_error", "message": "No."}})
    scripted.expect(status(404, inner), status(404, "<html>"))
    for kind in ("not_found_error", ""):
        with pytest.raises(NoSuchThingError) as caught:
            await make(scripted.url).trackers.get(OfId(id="tracker_1"))
        assert caught.value.kind == kind


PAGE = orjson.dumps({"object": "list", "limit": 10, "skip": 0, "totalCount": 0, "data": []})


@pytest.mark.parametrize("code", [429, 500, 503])
async def test_a_refusal_that_may_pass_is_tried_again_after_retry_after(
    make: Make, scripted: Scripted, code: int
) -> None:
    scripted.expect(refused(code, "any", retry_after="0.01"), status(200, PAGE))
    waits: list[tuple[float, str]] = []
    client = make(scripted.url, patience_seconds=5.0, waiting=lambda *wait: waits.append(wait))
    assert (await client.trackers.list(Searched())).total_count == 0
    assert len(scripted.got) == 2
    ((seconds, why),) = waits
    assert seconds == 0.01
    assert str(code) in why


async def test_a_retry_after_beyond_ones_patience_is_told_not_waited_for(
    make: Make, scripted: Scripted
) -> None:
    scripted.expect(refused(429, "rate_limit_exceeded_error", retry_after="600"))
    with pytest.raises(TooManyRequestsError) as caught:
        await make(scripted.url, patience_seconds=5.0).trackers.list(Searched())
    assert caught.value.after_seconds == 600


async def test_what_may_have_been_carried_out_is_repeated_only_where_that_does_no_harm(
    make: Make, scripted: Scripted
) -> None:
    client = make(scripted.url, patience_seconds=5.0)
    order = orjson.dumps({"id": "letter_1", "object": "letter"})
    scripted.expect(hang_up, status(504), status(201, order))
    made = await letter(client)
    keys = {got.headers["idempotency-key"] for got in scripted.got}
    assert (made.id, len(scripted.got), len(keys)) == ("letter_1", 3, 1)
    for answer in (hang_up, status(504)):
        scripted.expect(answer)
        with pytest.raises(InDoubtError):
            await tracker(client)


async def test_what_is_down_cannot_be_reached(make: Make, unused_tcp_port: int) -> None:
    with pytest.raises(UnreachableError) as caught:
        await make(f"http://127.0.0.1:{unused_tcp_port}").trackers.list(Searched())
    assert caught.value.may_pass
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [status(200, "<html>"), status(200, "{}"), status(302)],
    ids=["page", "object", "redirect"],
)
async def test_what_is_not_postgrid_is_told_so(make: Make, scripted: Scripted, answer: Any) -> None:
    scripted.expect(answer)
    with pytest.raises(UnreadableAnswerError):
        await make(scripted.url).trackers.list(Searched())


async def test_a_key_that_an_answer_repeats_is_hidden(make: Make, scripted: Scripted) -> None:
    body = orjson.dumps({"error": {"type": "x", "message": "key test_sk_secret is wrong"}})
    scripted.expect(status(401, body))
    with pytest.raises(PostGridError) as caught:
        await make(scripted.url, key="test_sk_secret").trackers.list(Searched())
    assert "test_sk_secret" not in str(caught.value)


async def test_the_request_is_as_documented(make: Make, scripted: Scripted) -> None:
    scripted.expect(status(200, PAGE), status(201, '{"id": "cheque_1"}'))
    client = make(scripted.url)
    await client.orders.list(
        OrdersSearched(kind="letters", limit=100, skip=5, search={"metadata.campaignID": "autumn"})
    )
    await client.orders.create(
        OrderFields(
            kind="cheques",
            idempotency_key="k",
            to="contact_1",
            from_="contact_2",
            bank_account="bank_1",
            amount=10_000,
            extra_service="certified",
            fields={"size": "us_letter"},
        )
    )
    listing, create = scripted.got
    search = "%7B%22metadata.campaignID%22%3A%22autumn%22%7D"
    assert listing.path == f"{ROOT}/letters?limit=100&skip=5&search={search}"
    assert listing.headers["x-api-key"] == "test_sk_sandbox"
    assert create.headers["idempotency-key"] == "k"
    assert orjson.loads(create.body) == {
        "size": "us_letter",
        "to": "contact_1",
        "from": "contact_2",
        "bankAccount": "bank_1",
        "amount": 10_000,
        "extraService": "certified",
    }


async def test_the_samples_of_the_order_document_are_read(make: Make, scripted: Scripted) -> None:
    """SEED3: contacts as ids or whole, `status` of another set, IMB status, a cheque's account."""
    sample = {
        "id": "postcard_asdb8123hasd1l1As",
        "object": "postcard",
        "live": False,
        "from": "contact_asd89123asdad9981",
        "imbStatus": "entered_mail_stream",
        "status": "entered_mail_stream",
        "to": {"id": "contact_1", "country": None},
        "createdAt": "2020-11-18T05:10:52.994Z",
        "trackingNumber": 9405,
    }
    scripted.expect(status(200, orjson.dumps(sample)))
    order = await make(scripted.url).find_order("postcard_asdb8123hasd1l1As")
    assert (order.status, order.imb_status) == ("entered_mail_stream", "entered_mail_stream")
    assert order.tracking_number == "9405"
    assert order.wire()["to"] == {"id": "contact_1", "country": None}


RUBBISH: list[Any] = [None, 7, "x", ["x"], {"x": [None]}, True, -1.5, "\u0000"]


@pytest.mark.parametrize("rubbish", RUBBISH, ids=repr)
async def test_fields_of_another_type_read_as_if_they_were_not_there(
    make: Make, scripted: Scripted, rubbish: Any
) -> None:
    """One odd row must not stop a listing: only what pages and names rows is insisted on."""
    fields = {
        name: rubbish
        for answer in (Tracker, Visit, Order, Webhook, Invocation)
        for field in answer.model_fields.values()
        if (name := field.alias or "") != "id"
    }
    row = {**fields, "id": "letter_1"}
    page = {"object": rubbish, "limit": 10, "skip": 0, "totalCount": 1, "data": [row]}
    client = make(scripted.url)
    scripted.expect(*[status(200, orjson.dumps(page))] * 5)
    for listed in (
        await client.trackers.list(Searched()),
        await client.visits.list(SearchedOfId(id="tracker_1")),
        await client.orders.list(OrdersSearched(kind="letters")),
        await client.webhooks.list(Searched()),
        await client.webhooks.invocations(SearchedOfId(id="webhook_1")),
    ):
        assert [each.id for each in listed.data] == ["letter_1"]


# Paging under drift


@pytest.mark.parametrize(
    "drift",
    [{"insert": 3}, {"insert": 0, "remove": 3}, {"insert": 0, "remove": 15}],
    ids=["comes", "goes", "goes far"],
)
@pytest.mark.parametrize("newest_first", [True, False])
async def test_a_listing_that_drifts_is_read_whole_and_each_row_once(
    make: Make, tmp_path: Path, drift: dict[str, int], *, newest_first: bool
) -> None:
    app = create_postgrid(PostgridSandbox(newest_first=newest_first), tmp_path)
    runner = web.AppRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    client = make(f"http://127.0.0.1:{runner.addresses[0][1]}")
    for _ in range(350):
        await letter(client)
    assert len(app[POSTGRID].orders) == 350
    fault = {"kind": "drift", "path": f"{ROOT}/letters", "times": 3, **drift}
    async with (
        ClientSession() as session,
        session.post(f"{client._settings.base_url}/_sandbox/faults", json=fault) as answer,
    ):
        assert answer.status == 201
    ids = [row.id async for row in client.orders.list.each(OrdersSearched(kind="letters"))]
    await runner.cleanup()
    assert len(ids) == len(set(ids))
    assert set(app[POSTGRID].orders) <= set(ids)


async def test_a_listing_of_large_orders_comes_whole(client: PostGridClient) -> None:
    for _ in range(20):
        await letter(client, html="<p>" + "x" * 50_000)
    rows = [row async for row in client.orders.list.each(OrdersSearched(kind="letters"))]
    assert len(rows) == 20
