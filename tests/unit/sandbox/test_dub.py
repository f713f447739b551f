import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient

from gateway.sandbox.control import CONTROL
from gateway.sandbox.dub import DUB, DUB_RATE, create_dub
from gateway.sandbox.dub_workspace import DubSandbox, Workspace
from gateway.sandbox.faults import HalfDone

Client = TestClient[web.Request, web.Application]
Connect = Callable[[web.Application], Awaitable[Client]]

KEY = {"Authorization": "Bearer dub_sandbox"}
CLICK = "Abcdefghij123456"
DAY_SECONDS = 86_400


def lead(**more: Any) -> Any:
    return {"clickId": CLICK, "eventName": "Sign up", "customerExternalId": "u-1", **more}


def sale(**more: Any) -> Any:
    return {"customerExternalId": "u-1", "amount": 4_900, **more}


def nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.fixture
async def client(connect: Connect, static: Path, clock: Callable[[], int]) -> Client:
    client = await connect(create_dub(DubSandbox(now_ms=clock), static))
    client.app[DUB].click("summer", CLICK)
    return client


@pytest.fixture
def workspace(client: Client) -> Workspace:
    return client.app[DUB]


async def post(client: Client, path: str, body: Any) -> ClientResponse:
    return await client.post(path, json=body, headers=KEY)


async def result(client: Client, path: str, body: Any) -> Any:
    answer = await post(client, path, body)
    assert answer.status == 200, await answer.text()
    return await answer.json()


async def refusal(client: Client, path: str, body: Any) -> tuple[int, str, str]:
    answer = await post(client, path, body)
    error = (await answer.json())["error"]
    assert set(error) == {"code", "message", "doc_url"}
    return answer.status, error["code"], error["message"]


async def test_a_lead_answers_in_the_documented_shape_and_makes_the_customer(
    client: Client, workspace: Workspace
) -> None:
    answer = await result(
        client, "/track/lead", lead(customerName="Ann", customerEmail="ann@ex.com")
    )
    link_id = workspace.links["summer"].id
    assert answer == {
        "click": {"id": CLICK},
        "link": {
            "id": link_id,
            "domain": "go.shop.example",
            "key": "summer",
            "shortLink": "https://go.shop.example/summer",
            "url": "https://shop.example/?utm_source=summer",
            "partnerId": None,
            "programId": None,
            "tenantId": None,
            "externalId": None,
        },
        "customer": {"name": "Ann", "email": "ann@ex.com", "avatar": None, "externalId": "u-1"},
    }
    assert workspace.customers["u-1"].id.startswith("cus_")
    assert [recorded.event_name for recorded in workspace.leads] == ["Sign up"]


async def test_a_sale_answers_in_the_documented_shape(client: Client, workspace: Workspace) -> None:
    await result(client, "/track/lead", lead(customerName="Ann"))
    answer = await result(client, "/track/sale", sale(invoiceId="in_1", metadata={"plan": "pro"}))
    assert answer == {
        "eventName": "Purchase",
        "customer": {
            "id": workspace.customers["u-1"].id,
            "name": "Ann",
            "email": None,
            "avatar": None,
            "externalId": "u-1",
        },
        "sale": {
            "amount": 4_900,
            "currency": "usd",
            "paymentProcessor": "custom",
            "invoiceId": "in_1",
            "metadata": {"plan": "pro"},
        },
    }


@pytest.mark.parametrize(
    ("header", "status", "code"),
    [
        ({}, 401, "unauthorized"),
        ({"Authorization": "dub_sandbox"}, 400, "bad_request"),
        ({"Authorization": "Bearer dub_wrong"}, 401, "unauthorized"),
        ({"Authorization": "Bearer other"}, 404, "not_found"),
    ],
)
async def test_a_bad_key_is_refused_before_the_body_is_read(
    client: Client, header: dict[str, str], status: int, code: str
) -> None:
    answer = await client.post("/track/lead", data=b"{", headers=header)
    assert (answer.status, (await answer.json())["error"]["code"]) == (status, code)
    assert "Retry-After" not in answer.headers


async def test_the_content_type_does_not_matter_but_the_json_does(client: Client) -> None:
    headers = {**KEY, "Content-Type": "text/plain"}
    good = b'{"clickId":"Abcdefghij123456","eventName":"Sign up","customerExternalId":"u-1"}'
    assert (await client.post("/track/lead", data=good, headers=headers)).status == 200
    answer = await client.post("/track/lead", data=b"{", headers=headers)
    assert (answer.status, (await answer.json())["error"]["code"]) == (400, "bad_request")


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/track/lead", lead(eventName=""), "too_small: eventName: eventName is required"),
        ("/track/lead", lead(eventName=" "), "too_small: eventName: eventName is required"),
        ("/track/lead", lead(eventName="x" * 256), "too_big: eventName: "),
        ("/track/lead", lead(eventName=None), "invalid_type: eventName: "),
        ("/track/lead", {"clickId": CLICK, "customerExternalId": "u"}, "invalid_type: eventName"),
        ("/track/lead", lead(clickId=7), "invalid_type: clickId: "),
        ("/track/lead", lead(customerName="😀" * 51), "too_big: customerName: "),
        ("/track/lead", lead(customerEmail="no address"), "invalid_format: customerEmail: "),
        ("/track/lead", lead(customerEmail=""), "invalid_format: customerEmail: "),
        ("/track/lead", lead(mode="later"), "invalid_value: mode: "),
        ("/track/lead", lead(eventQuantity=0), "too_small: eventQuantity: "),
        ("/track/lead", lead(eventQuantity=101), "too_big: eventQuantity: "),
        ("/track/lead", lead(metadata="{}"), "invalid_type: metadata: "),
        ("/track/lead", lead(metadata=nested(300)), "custom: metadata: "),
        ("/track/lead", lead(metadata=[]), "invalid_type: metadata: "),
        ("/track/lead", lead(metadata={"a": "x" * 10_000}), "custom: metadata: "),
        ("/track/lead", [lead()], "invalid_type: "),
        ("/track/sale", sale(amount="100"), "invalid_type: amount: "),
        ("/track/sale", sale(amount=1.5), "invalid_type: amount: "),
        ("/track/sale", sale(amount=True), "invalid_type: amount: "),
        ("/track/sale", sale(amount=-1), "too_small: amount: "),
        ("/track/sale", {"customerExternalId": "u-1"}, "invalid_type: amount: "),
        ("/track/sale", sale(paymentProcessor="cash"), "invalid_value: paymentProcessor: "),
        ("/track/sale", sale(amount="1", currency=7), "invalid_type: amount: "),
        ("/track/sale", [sale()], "invalid_type: "),
    ],
)
async def test_a_bad_field_is_422_with_the_first_issue_only(
    client: Client, workspace: Workspace, path: str, body: Any, message: str
) -> None:
    status, code, said = await refusal(client, path, body)
    assert (status, code) == (422, "unprocessable_entity")
    assert said.startswith(message)
    assert not workspace.leads
    assert not workspace.sales


async def test_unknown_keys_are_dropped(client: Client) -> None:
    await result(client, "/track/lead", lead(click_id="x", anything={"a": 1}))


@pytest.mark.parametrize("name", ["customerExternalId", "externalId", "customerId"])
async def test_the_customer_may_be_named_in_three_ways(
    client: Client, workspace: Workspace, name: str
) -> None:
    await result(client, "/track/lead", {"clickId": CLICK, "eventName": "a", name: " u-9 "})
    await result(client, "/track/sale", {"amount": 1, name: "u-9"})
    assert [recorded.external_id for recorded in workspace.sales] == ["u-9"]


@pytest.mark.parametrize("body", [lead(customerExternalId=" "), sale(customerExternalId=None)])
async def test_no_customer_at_all_is_400(client: Client, body: Any) -> None:
    path = "/track/lead" if "eventName" in body else "/track/sale"
    said = await refusal(client, path, body)
    assert said == (400, "bad_request", "customerExternalId is required")


@pytest.mark.parametrize("again", [lead(), lead(eventName="sign-UP"), lead(clickId="other")])
async def test_the_same_lead_again_within_a_week_is_200_without_a_link_and_not_recorded(
    client: Client, workspace: Workspace, clock: Any, again: Any
) -> None:
    await result(client, "/track/lead", lead())
    clock.move(seconds=7 * DAY_SECONDS - 1)
    assert (await result(client, "/track/lead", again))["link"] is None
    assert len(workspace.leads) == 1


async def test_after_a_week_the_same_lead_is_recorded_again(
    client: Client, workspace: Workspace, clock: Any
) -> None:
    await result(client, "/track/lead", lead())
    clock.move(seconds=7 * DAY_SECONDS)
    assert (await result(client, "/track/lead", lead()))["link"] is not None
    assert len(workspace.leads) == 2


async def test_a_lead_whose_click_was_unknown_is_claimed_and_can_never_be_repeated(
    client: Client, workspace: Workspace
) -> None:
    said = await refusal(client, "/track/lead", lead(clickId="late"))
    assert said == (404, "not_found", "Click event not found for clickId: late")
    workspace.click("summer", "late")
    assert (await result(client, "/track/lead", lead(clickId="late")))["link"] is None
    assert not workspace.leads
    assert not workspace.customers


async def test_a_lead_that_fails_after_it_was_noted_can_never_be_repeated(
    client: Client, workspace: Workspace
) -> None:
    client.app[CONTROL].faults.add(HalfDone(times=1))
    said = await refusal(client, "/track/lead", lead())
    assert said[:2] == (500, "internal_server_error")
    assert (await result(client, "/track/lead", lead()))["link"] is None
    assert not workspace.leads


@pytest.mark.parametrize("click", ["", None])
async def test_without_a_click_the_known_customers_is_used(client: Client, click: Any) -> None:
    assert (await refusal(client, "/track/lead", lead(clickId=click)))[:2] == (400, "bad_request")
    await result(client, "/track/lead", lead())
    answer = await result(client, "/track/lead", lead(clickId=click, eventName="Trial"))
    assert answer["click"] == {"id": CLICK}


async def test_a_deferred_lead_makes_only_the_customer_and_is_not_claimed(
    client: Client, workspace: Workspace
) -> None:
    for _ in range(2):
        assert (await result(client, "/track/lead", lead(mode="deferred")))["link"] is not None
    assert (list(workspace.customers), list(workspace.leads)) == (["u-1"], [])
    assert (await refusal(client, "/track/sale", sale()))[0] == 404
    await result(client, "/track/lead", lead(clickId=""))
    assert len(workspace.leads) == 1


async def test_a_quantity_records_the_lead_so_many_times(
    client: Client, workspace: Workspace
) -> None:
    await result(client, "/track/lead", lead(eventQuantity=3))
    assert [recorded.number for recorded in workspace.leads] == [1, 2, 3]


async def test_a_later_lead_does_not_change_the_customer(
    client: Client, workspace: Workspace
) -> None:
    await result(client, "/track/lead", lead(customerName="Ann"))
    await result(client, "/track/lead", lead(eventName="Trial", customerName="Bea"))
    assert workspace.customers["u-1"].name == "Ann"


async def test_a_lead_on_a_disabled_link_is_404(client: Client, workspace: Workspace) -> None:
    workspace.set_link("summer", "https://shop.example/", disabled=True)
    assert (await refusal(client, "/track/lead", lead()))[:2] == (404, "not_found")
    assert (await refusal(client, "/track/sale", sale(clickId=CLICK)))[:2] == (404, "not_found")


async def test_an_async_lead_is_invisible_to_sales_for_a_while_and_a_waited_one_is_not(
    client: Client, workspace: Workspace, clock: Any
) -> None:
    workspace.lead_visible_after_seconds = 10
    await result(client, "/track/lead", lead())
    message = "Lead event not found for externalId: u-1 and leadEventName: None"
    assert await refusal(client, "/track/sale", sale()) == (404, "not_found", message)
    clock.move(seconds=10)
    await result(client, "/track/sale", sale())
    await result(client, "/track/lead", lead(customerExternalId="u-2", mode="wait"))
    await result(client, "/track/sale", sale(customerExternalId="u-2"))
    assert [recorded.external_id for recorded in workspace.sales] == ["u-1", "u-2"]


async def test_a_sale_can_name_its_lead(client: Client, workspace: Workspace) -> None:
    await result(client, "/track/lead", lead())
    await result(client, "/track/lead", lead(eventName="Trial"))
    await result(client, "/track/sale", sale(leadEventName="Sign up"))
    await result(client, "/track/sale", sale())
    assert [recorded.lead_number for recorded in workspace.sales] == [1, 2]
    assert (await refusal(client, "/track/sale", sale(leadEventName="sign up")))[0] == 404


async def test_a_sale_of_an_unknown_customer_is_200_with_nulls_and_may_be_repeated(
    client: Client, workspace: Workspace
) -> None:
    nothing = {"eventName": "Purchase", "customer": None, "sale": None}
    assert await result(client, "/track/sale", sale(invoiceId="in_1")) == nothing
    await result(client, "/track/lead", lead())
    assert (await result(client, "/track/sale", sale(invoiceId="in_1")))["sale"] is not None
    assert len(workspace.sales) == 1


async def test_a_sale_with_a_click_makes_the_unknown_customer_and_its_lead(
    client: Client, workspace: Workspace
) -> None:
    await result(client, "/track/sale", sale(clickId=CLICK, customerName="Ann"))
    assert workspace.customers["u-1"].name == "Ann"
    assert workspace.leads[0].event_name == "Direct sale tracking lead event"
    assert workspace.sales[0].click_id == CLICK
    said = await refusal(client, "/track/sale", sale(customerExternalId="u-2", clickId="x"))
    assert said == (404, "not_found", "Click event not found for clickId: x")


async def test_a_known_customers_sale_ignores_the_click(
    client: Client, workspace: Workspace
) -> None:
    await result(client, "/track/lead", lead())
    await result(client, "/track/sale", sale(clickId="unknown"))
    assert workspace.sales[0].click_id == CLICK


async def test_a_sale_of_nothing_is_200_with_nulls(client: Client, workspace: Workspace) -> None:
    await result(client, "/track/lead", lead())
    answer = await result(client, "/track/sale", sale(amount=0, eventName="Free"))
    assert answer == {"eventName": "Free", "customer": None, "sale": None}
    assert not workspace.sales


async def test_an_invoice_again_gets_the_first_answer_whoever_the_customer_is(
    client: Client, workspace: Workspace, clock: Any
) -> None:
    await result(client, "/track/lead", lead())
    first = await result(client, "/track/sale", sale(invoiceId="in_1"))
    again = sale(invoiceId="in_1", amount=1, customerExternalId="u-2")
    assert await result(client, "/track/sale", again) == first
    clock.move(seconds=7 * DAY_SECONDS)
    assert await result(client, "/track/sale", sale(invoiceId="in_1", amount=1)) != first
    assert len(workspace.sales) == 2


async def test_twins_of_an_invoice_at_the_same_moment_are_both_recorded(
    client: Client, workspace: Workspace
) -> None:
    workspace.sale_takes_seconds = 0.2
    await result(client, "/track/lead", lead())
    body = sale(invoiceId="in_1")
    await asyncio.gather(*(result(client, "/track/sale", body) for _ in range(2)))
    assert len(workspace.sales) == 2


async def test_a_sale_without_an_invoice_is_recorded_every_time(
    client: Client, workspace: Workspace
) -> None:
    await result(client, "/track/lead", lead())
    for _ in range(2):
        await result(client, "/track/sale", sale())
    assert len(workspace.sales) == 2


async def test_a_sale_is_answered_in_dollars_where_a_rate_is_known(
    client: Client, workspace: Workspace
) -> None:
    await result(client, "/track/lead", lead())
    known = await result(client, "/track/sale", sale(currency="SEK"))
    unknown = await result(client, "/track/sale", sale(currency="XYZ"))
    assert (known["sale"]["amount"], known["sale"]["currency"]) == (490, "usd")
    assert (unknown["sale"]["amount"], unknown["sale"]["currency"]) == (4_900, "xyz")
    assert (workspace.sales[0].sent_amount, workspace.sales[0].sent_currency) == (4_900, "sek")


async def test_limits_are_told_only_on_errors_and_retry_after_is_an_instant(
    client: Client, clock: Any
) -> None:
    good = await post(client, "/track/lead", lead())
    assert not [name for name in good.headers if "ratelimit" in name.lower()]
    assert "Retry-After" not in good.headers
    bad = await post(client, "/track/lead", lead(eventName=""))
    reset_ms = (clock() // 60_000 + 1) * 60_000
    assert bad.headers["Retry-After"] == bad.headers["X-RateLimit-Reset"] == str(reset_ms)
    assert bad.headers["X-RateLimit-Limit"] == "1200"
    assert bad.headers["X-RateLimit-Remaining"] == "1198"


async def test_more_than_the_limit_in_a_minute_is_429(
    client: Client, workspace: Workspace, clock: Any
) -> None:
    client.app[DUB_RATE].limit = 2
    for name in ("a", "b"):
        await result(client, "/track/lead", lead(eventName=name))
    answer = await post(client, "/track/lead", lead(eventName="c"))
    error = (await answer.json())["error"]
    assert (answer.status, error["code"]) == (429, "rate_limit_exceeded")
    assert error["doc_url"].endswith("#rate-limit_exceeded")
    assert int(answer.headers["Retry-After"]) > clock()
    assert len(workspace.leads) == 2
    clock.move(seconds=60)
    await result(client, "/track/lead", lead(eventName="c"))


async def test_a_customer_can_be_read_changed_and_listed(client: Client) -> None:
    await result(client, "/track/lead", lead(customerExternalId="a/b"))
    change = {"name": "Ann", "email": "ann@ex.com", "country": "SE", "unknown": 1}
    answer = await client.patch("/customers/ext_a%2Fb", json=change, headers=KEY)
    changed = await answer.json()
    assert (answer.status, changed["externalId"], changed["name"]) == (200, "a/b", "Ann")
    by_id = await client.get(f"/customers/{changed['id']}", headers=KEY)
    assert await by_id.json() == changed
    listed = await client.get("/customers", params={"externalId": "a/b"}, headers=KEY)
    assert await listed.json() == [changed]
    none = await client.get("/customers", params={"email": "x@ex.com"}, headers=KEY)
    assert await none.json() == []


@pytest.mark.parametrize(
    ("customer", "change", "status"),
    [
        ("ext_u-9", {"name": "Ann"}, 404),
        ("cus_x", {"name": "Ann"}, 404),
        ("ext_u-1", {"email": "x"}, 422),
        ("ext_u-1", {"avatar": "x"}, 422),
        ("ext_u-1", {"externalId": "u-2"}, 409),
        ("ext_u-1", [], 422),
    ],
)
async def test_a_change_that_cannot_be_made_is_refused(
    client: Client, customer: str, change: Any, status: int
) -> None:
    await result(client, "/track/lead", lead())
    await result(client, "/track/lead", lead(customerExternalId="u-2"))
    answer = await client.patch(f"/customers/{customer}", json=change, headers=KEY)
    assert answer.status == status


async def test_a_customer_made_without_a_click_can_have_no_sales(
    client: Client, workspace: Workspace
) -> None:
    new = {"externalId": "u-7", "country": "SE", "name": "Ann"}
    made = await post(client, "/customers", new)
    assert (made.status, (await made.json())["externalId"]) == (201, "u-7")
    assert (await refusal(client, "/customers", new))[:2] == (409, "conflict")
    assert (await refusal(client, "/customers", {"externalId": "u-8"}))[0] == 422
    said = await refusal(client, "/track/sale", sale(customerExternalId="u-7"))
    assert said == (404, "not_found", "Link not found for customer u-7")
    assert not workspace.sales


async def test_a_customer_can_be_deleted(client: Client, workspace: Workspace) -> None:
    await result(client, "/track/lead", lead())
    customer = workspace.customers["u-1"].id
    answer = await client.delete("/customers/ext_u-1", headers=KEY)
    assert await answer.json() == {"id": customer}
    assert (await client.delete("/customers/ext_u-1", headers=KEY)).status == 404
    assert (await result(client, "/track/sale", sale()))["sale"] is None


@pytest.mark.parametrize(
    ("email", "status"),
    [
        ("o'hara+x_1@mail.x-y.example", 200),
        ("ann'@x.example", 422),
        (".ann@x.example", 422),
        ("a..b@x.example", 422),
        ("ann@x", 422),
        ("ann@x.e", 422),
        ("ann@-x.example", 422),
        ("ånn@x.example", 422),
        ("ann@x.exam\u017fle", 422),
        ("ann@x.example\n", 422),
    ],
)
async def test_an_address_is_what_zod_takes_for_one(
    client: Client, email: str, status: int
) -> None:
    answer = await post(client, "/track/lead", lead(customerEmail=email))
    assert answer.status == status


async def test_the_2024_path_for_customers_is_gone(client: Client) -> None:
    said = await refusal(client, "/track/customer", {"customerId": "u-1"})
    assert said[:2] == (404, "not_found")


async def test_a_short_link_makes_a_click_and_leads_on_with_its_id(
    client: Client, workspace: Workspace
) -> None:
    answer = await client.get("/go/summer?gclid=x%26y", allow_redirects=False)
    click_id = next(name for name in workspace.clicks if name != CLICK)
    assert len(click_id) == 16
    assert click_id.isalnum()
    assert answer.status == 302
    target = answer.headers["Location"]
    assert target == f"https://shop.example/?utm_source=summer&gclid=x%26y&dub_id={click_id}"
    await result(client, "/track/lead", lead(clickId=click_id))
    again = await client.get("/go/summer", allow_redirects=False)
    assert again.headers["Location"].endswith(click_id)
    assert (await client.get("/go/none", allow_redirects=False)).status == 404


async def test_clicks_and_links_can_be_made_over_http(client: Client) -> None:
    link = {"key": "winter", "url": "https://shop.example/w"}
    assert (await client.post("/_sandbox/links", json=link)).status == 201
    click = await client.post("/_sandbox/clicks", json={"key": "winter", "clickId": "mine"})
    assert await click.json() == {"clickId": "mine"}
    assert (await result(client, "/track/lead", lead(clickId="mine")))["link"]["key"] == "winter"
    assert (await client.post("/_sandbox/clicks", json={"key": "x"})).status == 404
    assert (await client.post("/_sandbox/clicks", json={"key": 1})).status == 422
    bad_link = {"key": "x", "url": "javascript:alert(1)"}
    assert (await client.post("/_sandbox/links", json=bad_link)).status == 422


async def test_the_state_shows_all_and_can_be_reset(client: Client) -> None:
    await result(client, "/track/lead", lead())
    await result(client, "/track/sale", sale(invoiceId="in_1"))
    shown = await (await client.get("/_sandbox/state")).json()
    assert shown["totals"] == {"leads": 1, "sales": 1, "customers": 1, "clicks": 1, "links": 1}
    assert shown["sales"][0]["invoiceId"] == "in_1"
    assert shown["customers"]["u-1"]["clickId"] == CLICK
    assert (await client.delete("/_sandbox/state")).status == 204
    shown = await (await client.get("/_sandbox/state")).json()
    assert (shown["leads"], shown["requests"]) == ([], [])
    assert (await refusal(client, "/track/lead", lead()))[0] == 404
