"""The Dub stand-in in its dialect of 2024, by the documents of that time (dub.md, 1a)."""

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient

from gateway.sandbox.control import CONTROL
from gateway.sandbox.dub import DUB, create_dub
from gateway.sandbox.dub_workspace import DubSandbox, Workspace
from gateway.sandbox.faults import HalfDone

Client = TestClient[web.Request, web.Application]
Connect = Callable[[web.Application], Awaitable[Client]]

KEY = {"Authorization": "Bearer dub_sandbox"}
CLICK = "Abcdefghij123456"


def lead(**more: Any) -> Any:
    """What the SDK 0.10.6 sends: null where a field of the customer is not set."""
    return {
        "clickId": CLICK,
        "customerAvatar": None,
        "customerEmail": None,
        "customerId": "u1",
        "customerName": None,
        "eventName": "Sign up",
        **more,
    }


def sale(**more: Any) -> Any:
    return {
        "amount": 996_500,
        "currency": "usd",
        "customerId": "u1",
        "eventName": "Purchase",
        "invoiceId": None,
        "paymentProcessor": "shopify",
        **more,
    }


@pytest.fixture
async def client(connect: Connect, static: Path, clock: Callable[[], int]) -> Client:
    client = await connect(create_dub(DubSandbox(dialect="2024", now_ms=clock), static))
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


async def refusal(client: Client, path: str, body: Any) -> tuple[int, str]:
    answer = await post(client, path, body)
    return answer.status, (await answer.json())["error"]["message"]


async def test_the_requests_of_the_sdk_get_the_answers_of_the_time(client: Client) -> None:
    person = {"name": None, "email": "a@x.io", "avatar": None}
    flat = {"customerName": None, "customerEmail": "a@x.io", "customerAvatar": None}
    assert await result(client, "/track/lead", lead(customerEmail="a@x.io")) == {
        "click": {"id": CLICK},
        "customer": {"id": "u1", **person},
        "clickId": CLICK,
        "customerId": "u1",
        **flat,
    }
    sold = {
        "amount": 996_500,
        "currency": "usd",
        "paymentProcessor": "shopify",
        "invoiceId": None,
        "metadata": None,
    }
    assert await result(client, "/track/sale", sale()) == {
        "eventName": "Purchase",
        "customer": {"id": "u1", **person, "name": "a@x.io"},
        "sale": sold,
        **sold,
    }
    changed = {"customerEmail": "a@x.io", "customerId": "u1"}
    assert await result(client, "/track/customer", changed) == {
        "customerId": "u1",
        **flat,
        "customerName": "a@x.io",
    }


async def test_a_call_without_an_argument_is_an_empty_body_and_refused(client: Client) -> None:
    headers = {**KEY, "Content-Type": "application/octet-stream"}
    answer = await client.post("/track/customer", data=b"", headers=headers)
    assert (answer.status, (await answer.json())["error"]["code"]) == (400, "bad_request")


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("lead", lead(clickId=""), "clickId"),
        ("lead", lead(clickId=None), "clickId"),
        ("lead", lead(eventName="x" * 51), "eventName"),
        ("lead", lead(customerId="x" * 101), "customerId"),
        ("lead", {**lead(), "customerId": None, "customerExternalId": "u1"}, "customerId"),
        ("lead", lead(customerName="x" * 101), "customerName"),
        ("lead", lead(customerEmail="a@x"), "customerEmail"),
        ("lead", lead(customerAvatar="x" * 101), "customerAvatar"),
        ("sale", sale(amount=0), "amount"),
        ("sale", sale(eventName="x" * 51), "eventName"),
        ("sale", sale(paymentProcessor="custom"), "paymentProcessor"),
        ("sale", {"customerId": "u1", "amount": 1}, "paymentProcessor"),
        ("customer", {"customerId": ""}, "customerId"),
        ("customer", {"customerId": "u1", "customerName": None}, "customerName"),
        ("customer", {"customerId": "u1", "customerAvatar": "x" * 101}, "customerAvatar"),
    ],
)
async def test_the_limits_are_those_of_2024(
    client: Client, path: str, body: Any, field: str
) -> None:
    status, message = await refusal(client, f"/track/{path}", body)
    assert (status, message.split(": ")[1]) == (422, field)


async def test_newer_names_are_dropped(client: Client, workspace: Workspace) -> None:
    await result(client, "/track/lead", lead(mode="deferred", eventQuantity=3))
    assert len(workspace.leads) == 1


async def test_the_same_lead_again_within_the_hour_is_429_and_is_not_recorded(
    client: Client, workspace: Workspace, clock: Any
) -> None:
    await result(client, "/track/lead", lead())
    clock.move(seconds=3599)
    answer = await post(client, "/track/lead", lead(eventName="sign-UP"))
    error = (await answer.json())["error"]
    assert (answer.status, error["code"]) == (429, "rate_limit_exceeded")
    assert error["message"] == "Rate limit exceeded for customer u1: sign-UP"
    assert int(answer.headers["Retry-After"]) > 1e12, "like that of too many requests"
    assert int(answer.headers["X-RateLimit-Remaining"]) > 0
    clock.move(seconds=1)
    await result(client, "/track/lead", lead())
    assert len(workspace.leads) == 2


async def test_a_lead_is_noted_before_its_click_is_looked_up(client: Client) -> None:
    message = "Click event not found for clickId: late"
    assert await refusal(client, "/track/lead", lead(clickId="late")) == (404, message)
    assert (await refusal(client, "/track/lead", lead()))[0] == 429


async def test_a_lead_that_fails_half_done_is_noted_too(
    client: Client, workspace: Workspace
) -> None:
    client.app[CONTROL].faults.add(HalfDone(times=1))
    assert (await refusal(client, "/track/lead", lead()))[0] == 500
    assert (await refusal(client, "/track/lead", lead()))[0] == 429
    assert not workspace.leads


async def test_a_sale_of_somebody_unknown_or_without_a_lead_is_404(
    client: Client, workspace: Workspace
) -> None:
    said = await refusal(client, "/track/sale", sale())
    assert said == (404, "Customer not found for customerId: u1")
    await result(client, "/track/customer", {"customerId": "u1"})
    customer = workspace.customers["u1"]
    said = await refusal(client, "/track/sale", sale())
    assert said == (404, f"Lead event not found for customerId: {customer.id}")
    await result(client, "/track/lead", lead())
    await result(client, "/track/sale", sale())
    assert workspace.sales[0].click_id == CLICK


async def test_an_invoice_is_not_known_again_and_nothing_is_converted(
    client: Client, workspace: Workspace
) -> None:
    await result(client, "/track/lead", lead())
    for _ in range(2):
        answer = await result(client, "/track/sale", sale(invoiceId="in_1", currency="sek"))
        assert answer["sale"]["amount"] == 996_500
    assert [each.currency for each in workspace.sales] == ["sek", "sek"]


async def test_a_lead_overwrites_its_customer_and_a_customer_call_changes_only_what_it_says(
    client: Client, workspace: Workspace
) -> None:
    told = {"customerId": "u1", "customerName": "Ann", "customerEmail": "a@x.io"}
    await result(client, "/track/customer", told)
    await result(client, "/track/customer", {"customerId": "u1", "customerAvatar": "a.png"})
    customer = workspace.customers["u1"]
    assert (customer.name, customer.email, customer.avatar) == ("Ann", "a@x.io", "a.png")
    await result(client, "/track/lead", lead(customerName="Bea"))
    customer = workspace.customers["u1"]
    assert (customer.name, customer.email, customer.avatar) == ("Bea", None, None)


async def test_todays_paths_for_customers_are_not_there(client: Client) -> None:
    await result(client, "/track/lead", lead())
    assert (await client.patch("/customers/ext_u1", json={}, headers=KEY)).status == 404


async def test_a_reset_forgets_the_leads_that_were_noted(client: Client) -> None:
    await result(client, "/track/lead", lead())
    await client.delete("/_sandbox/state")
    client.app[DUB].click("summer", CLICK)
    await result(client, "/track/lead", lead())
