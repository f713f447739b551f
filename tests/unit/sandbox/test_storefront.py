import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from gateway.sandbox.storefront import SNIPPET_PLACE, StorefrontSandbox, create_storefront

Client = TestClient[web.Request, web.Application]
Connect = Callable[[web.Application], Awaitable[Client]]

SNIPPET = '<script src="https://events.shop.example/collector.js" data-key="pk_demo"></script>'
PRICES = '{"currency": "sek", "products": [{"sku": "A", "price": 4990}, {"sku": "B", "price": 1}]}'


@pytest.fixture
async def client(connect: Connect, tmp_path: Path) -> Client:
    demo = tmp_path / "static" / "demo"
    (demo / "products").mkdir(parents=True)
    (demo / "index.html").write_text(f"<head>{SNIPPET_PLACE}</head>Shop")
    (demo / "products" / "a.html").write_text("Boots")
    (demo / "shop.js").write_text(f"// {SNIPPET_PLACE}")
    (demo / "notes.txt").write_text("private")
    (demo / "products.json").write_text(PRICES)
    (tmp_path / "static" / "secret.html").write_text("private")
    return await connect(create_storefront(StorefrontSandbox(snippet=SNIPPET), tmp_path / "static"))


async def test_pages_carry_the_snippet_and_other_files_are_left_alone(client: Client) -> None:
    assert await (await client.get("/")).text() == f"<head>{SNIPPET}</head>Shop"
    assert await (await client.get("/products/a.html?vtid=1")).text() == "Boots"
    script = await client.get("/shop.js")
    assert (script.content_type, await script.text()) == ("text/javascript", f"// {SNIPPET_PLACE}")


@pytest.mark.parametrize(
    "path",
    ["/none.html", "/products", "/index.html/x.html", "/notes.txt", "/%2e%2e/secret.html",
     "/..%2fsecret.html", "/products/..%2f..%2fsecret.html", "/%00.html", "/.html"],
)  # fmt: skip
async def test_nothing_outside_the_shop_is_served(client: Client, path: str) -> None:
    assert (await client.get(path)).status == 404


async def test_signing_up_gives_the_same_ids_for_the_same_address(client: Client) -> None:
    answers = []
    for email in ("ann@ex.com", " Ann@ex.com "):
        answer = await client.post("/api/sign-up", json={"email": email, "name": "Ann"})
        assert answer.status == 201
        answers.append(await answer.json())
    assert answers[0] == answers[1]
    assert set(answers[0]) == {"customerId", "contactId"}
    assert str(uuid.UUID(answers[0]["contactId"])) == answers[0]["contactId"]
    other = await client.post("/api/sign-up", json={"email": "bea@ex.com", "name": "Bea"})
    assert (await other.json())["contactId"] != answers[0]["contactId"]


async def test_checking_out_adds_the_shops_own_prices_up(client: Client) -> None:
    items = [{"sku": "A", "quantity": 2}, {"sku": "B", "quantity": 1}]
    orders = []
    for _ in range(2):
        answer = await client.post("/api/check-out", json={"items": items})
        assert answer.status == 201
        orders.append(await answer.json())
    assert (orders[0]["amount"], orders[0]["currency"]) == (9_981, "sek")
    assert orders[0]["invoiceId"] != orders[1]["invoiceId"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/sign-up", {}),
        ("/api/sign-up", {"email": "ann", "name": "Ann"}),
        ("/api/sign-up", {"email": "ann@ex.com", "name": " "}),
        ("/api/sign-up", {"email": 1, "name": "Ann"}),
        ("/api/sign-up", []),
        ("/api/check-out", {"items": []}),
        ("/api/check-out", {"items": [{"sku": "none", "quantity": 1}]}),
        ("/api/check-out", {"items": [{"sku": "A", "quantity": 0}]}),
        ("/api/check-out", {"items": [{"sku": "A", "quantity": 1, "price": 1}]}),
    ],
)
async def test_rubbish_is_refused_with_what_is_wrong(client: Client, path: str, body: Any) -> None:
    answer = await client.post(path, json=body)
    assert answer.status == 422
    assert (await answer.json())["problems"][0]["problem"]


async def test_without_a_price_list_nothing_can_be_bought(connect: Connect, tmp_path: Path) -> None:
    client = await connect(create_storefront(StorefrontSandbox(), tmp_path))
    body = {"items": [{"sku": "A", "quantity": 1}]}
    assert (await client.post("/api/check-out", json=body)).status == 503


async def test_what_is_not_json_or_too_much_is_refused(client: Client) -> None:
    json = {"Content-Type": "application/json"}
    path = "/api/sign-up"
    assert (await client.post(path, data=b"{", headers=json)).status == 422
    assert (
        await client.post(path, data=b"{}", headers={"Content-Type": "text/plain"})
    ).status == 415
    assert (await client.post(path, data=b" " * 100_000, headers=json)).status == 413
    assert (await client.get("/api/sign-up")).status == 404
