from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient

from gateway.sandbox.control import CONTROL
from gateway.sandbox.voyado import MAX_BATCH_ITEMS, VOYADO, VoyadoSandbox, create_voyado

Client = TestClient[web.Request, web.Application]
Connect = Callable[[web.Application], Awaitable[Client]]

CART = "/api/v2/tracking/carts"
CARTS = "/api/v2/tracking/carts/batch"
VIEW = "/api/v2/tracking/productview"
VIEWS = "/api/v2/tracking/productviews"
HEADERS = {"apikey": "sandbox-voyado-key", "User-Agent": "Gateway/0.1"}


def cart(reference: str = "c-1", time: str = "2026-03-02T10:15:00+00:00", sku: str = "A") -> Any:
    return {"cartReference": reference, "time": time, "items": [{"sku": sku, "quantity": 2}]}


def view(**more: Any) -> Any:
    return {"itemId": "SKU-1", "contactId": "0f0e0d0c-0b0a-0908-0706-050403020100", **more}


@pytest.fixture
async def client(connect: Connect, static: Path, clock: Callable[[], int]) -> Client:
    return await connect(create_voyado(VoyadoSandbox(now_ms=clock), static))


async def post(client: Client, path: str, body: Any, **headers: str) -> ClientResponse:
    return await client.post(path, json=body, headers={**HEADERS, **headers})


@pytest.mark.parametrize(
    ("path", "body"),
    [(CART, cart()), (CARTS, [cart(), cart("c-2")]), (VIEW, view()), (VIEWS, [view(), view()])],
)
async def test_success_is_200_with_an_empty_body(client: Client, path: str, body: Any) -> None:
    answer = await post(client, path, body)
    assert (answer.status, await answer.read()) == (200, b"")


async def test_the_documented_models_are_taken_whole(client: Client) -> None:
    full_cart = {
        **cart(),
        "contactId": "ae16a9b4-f581-4568-8948-a96100b2afd4",
        "language": "sv-SE",
        "url": "https://shop.example/cart?id=c-1",
    }
    full_view = view(
        category="Shoes > Running",
        time="2026-03-02T10:14:02Z",
        sessionId="s-77",
        newSession=True,
        language="sv-SE",
        url="https://shop.example/p/sku-1",
        externalReferrer="https://search.example",
        utm=[{"key": "utm_source", "value": "newsletter"}],
    )
    assert (await post(client, CARTS, [full_cart])).status == 200
    assert (await post(client, VIEWS, [full_view])).status == 200
    shown = await (await client.get("/_sandbox/state")).json()
    assert full_cart.items() <= shown["carts"]["c-1"].items()
    assert full_view.items() <= shown["views"][0].items()


@pytest.mark.parametrize("headers", [{"apikey": "wrong"}, {"apikey": ""}, {"apikey": "schlüssel"}])
async def test_a_wrong_key_is_refused(client: Client, headers: dict[str, str]) -> None:
    assert (await post(client, CART, cart(), **headers)).status == 401


async def test_a_bearer_token_is_no_key(client: Client) -> None:
    bearer = {"Authorization": "Bearer sandbox-voyado-key", "User-Agent": "Gateway/0.1"}
    assert (await client.post(CART, json=cart(), headers=bearer)).status == 401


@pytest.mark.parametrize("agent", ["", "Gateway", "Gateway/", "/0.1", "(Gateway/0.1)"])
async def test_a_user_agent_of_another_form_is_refused(client: Client, agent: str) -> None:
    assert (await post(client, CART, cart(), **{"User-Agent": agent})).status == 400


async def test_a_missing_content_type_is_the_documented_500(client: Client) -> None:
    answer = await client.post(CART, data=b"{}", headers=HEADERS)
    assert answer.status == 500
    assert await answer.json() == {"message": "An error has occurred"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CART, {**cart(), "CartReference": "c-1"}),
        (CART, {**cart(), "cart_reference": "c-1"}),
        (CART, {**cart(), "cartReference": ""}),
        (CART, {"time": "2026-03-02T10:15:00Z", "items": []}),
        (CART, {"cartReference": "c-1", "items": []}),
        (CART, {"cartReference": "c-1", "time": "2026-03-02T10:15:00Z"}),
        (CART, cart(time="2026-03-02T10:15:00")),
        (CART, cart(time="2026-03-02")),
        (CART, cart(time="2026-02-30T10:15:00Z")),
        (CART, cart(time="2026-03-02T10:15:00+25:00")),
        (CART, {**cart(), "time": 1_700_000_000}),
        (CART, {**cart(), "contactId": None}),
        (CART, {**cart(), "items": [{"sku": "A", "quantity": "2"}]}),
        (CART, {**cart(), "items": [{"sku": "A", "quantity": 2.5}]}),
        (CART, {**cart(), "items": [{"sku": "A", "quantity": True}]}),
        (CART, {**cart(), "items": [{"sku": "A", "quantity": 1, "price": 3}]}),
        (CART, [cart()]),
        (CARTS, cart()),
        (CARTS, {"carts": [cart()]}),
        (CARTS, [cart(), {"cartReference": "c-2"}]),
        (CARTS, [cart(str(number)) for number in range(MAX_BATCH_ITEMS + 1)]),
        (VIEW, {"itemId": "SKU-1"}),
        (VIEW, {"contactId": "x"}),
        (VIEW, view(utm={"utm_source": "x"})),
        (VIEW, view(newSession="true")),
        (VIEW, view(time="2026-03-02T10:15:00")),
        (VIEWS, [view(), view(itemId="")]),
        (VIEWS, "views"),
    ],
)
async def test_a_bad_item_is_refused_and_nothing_of_its_request_is_kept(
    client: Client, path: str, body: Any
) -> None:
    answer = await post(client, path, body)
    assert answer.status == 400
    assert set(await answer.json()) == {"message"}
    assert client.app[VOYADO].as_json(None)["totals"] == {"carts": 0, "updates": 0, "views": 0}


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"NaN", b"[" * 5_000])
async def test_what_is_not_json_is_refused(client: Client, body: bytes) -> None:
    headers = {**HEADERS, "Content-Type": "application/json"}
    assert (await client.post(CARTS, data=body, headers=headers)).status == 400


async def test_a_whole_batch_of_the_greatest_size_is_taken(client: Client) -> None:
    answer = await post(client, CARTS, [cart(str(number)) for number in range(MAX_BATCH_ITEMS)])
    assert answer.status == 200
    assert len(client.app[VOYADO].carts) == MAX_BATCH_ITEMS


async def test_the_last_time_wins_whatever_the_order_of_arrival(client: Client) -> None:
    await post(client, CART, cart(time="2026-03-02T10:15:00+00:00", sku="new"))
    await post(client, CART, cart(time="2026-03-02T11:14:59+01:00", sku="old"))
    state = client.app[VOYADO]
    assert state.carts["c-1"].cart.items[0].sku == "new"
    assert [update.went_back for update in state.updates] == [False, True]
    assert [update.took_effect for update in state.updates] == [True, False]


async def test_within_a_batch_the_order_does_not_count(client: Client) -> None:
    newer = cart(time="2026-03-02T10:15:01Z", sku="new")
    await post(client, CARTS, [newer, cart(time="2026-03-02T10:15:00Z", sku="old")])
    state = client.app[VOYADO]
    assert state.carts["c-1"].cart.items[0].sku == "new"
    assert [update.went_back for update in state.updates] == [False, False]


async def test_a_cart_sent_again_is_recorded_again_and_changes_nothing(client: Client) -> None:
    await post(client, CART, cart())
    await post(client, CART, cart())
    state = client.app[VOYADO]
    assert [update.went_back for update in state.updates] == [False, False]
    assert len(state.carts) == 1


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"contactId": "x", "language": "sv-SE"}, None),
        ({"language": "sv-SE"}, "no contact"),
        ({"contactId": "x"}, "no product feed in its language"),
        ({"contactId": "x", "language": "sv"}, "no product feed in its language"),
        ({"items": []}, None),
    ],
)
async def test_a_cart_that_would_never_remind_anybody_is_taken_and_says_why(
    client: Client, more: dict[str, Any], why: str | None
) -> None:
    assert (await post(client, CART, {**cart(), **more})).status == 200
    shown = await (await client.get("/_sandbox/state")).json()
    assert shown["carts"]["c-1"]["filteredOut"] == why


@pytest.mark.parametrize(
    ("language", "why"), [("en-GB", None), ("de-DE", "no product feed in its language")]
)
async def test_a_view_in_a_language_without_a_feed_is_taken_and_says_why(
    client: Client, language: str, why: str | None
) -> None:
    assert (await post(client, VIEW, view(language=language))).status == 200
    shown = await (await client.get("/_sandbox/state")).json()
    assert shown["views"][0]["filteredOut"] == why


async def test_views_are_never_deduplicated(client: Client) -> None:
    await post(client, VIEWS, [view(), view()])
    await post(client, VIEW, view())
    assert [received.number for received in client.app[VOYADO].views] == [1, 2, 3]


async def test_more_than_the_limit_in_a_second_is_429_and_the_next_second_is_free(
    client: Client, clock: Any
) -> None:
    client.app[VOYADO].rate.limit = 3
    statuses = [(await post(client, VIEW, view())).status for _ in range(4)]
    assert statuses == [200, 200, 200, 429]
    clock.move(seconds=1)
    assert (await post(client, VIEW, view())).status == 200


async def test_the_limit_is_200_a_second_by_default_and_can_be_switched_off(
    client: Client,
) -> None:
    statuses = [(await post(client, VIEW, view())).status for _ in range(201)]
    assert statuses == [*[200] * 200, 429]
    client.app[VOYADO].rate.limit = None
    assert (await post(client, VIEW, view())).status == 200


async def test_requests_are_counted_by_path_and_status(client: Client) -> None:
    await post(client, CART, cart())
    await post(client, CART, {})
    await post(client, "/api/v2/tracking/made-up", {})
    assert client.app[CONTROL].requests == {
        ("POST", CART, 200): 1,
        ("POST", CART, 400): 1,
        ("POST", "(unknown path)", 404): 1,
    }
