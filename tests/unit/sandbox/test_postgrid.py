"""The PostGrid stand-in, by the two documents and postgrid.md."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import ClientResponse, web
from aiohttp.test_utils import TestClient, TestServer

from gateway.sandbox.postgrid import POSTGRID, ROOT, create_postgrid
from gateway.sandbox.postgrid_account import Account, PostgridSandbox
from gateway.sandbox.postgrid_models import EVENT_TYPES
from gateway.sandbox.postgrid_webhooks import signature

Client = TestClient[web.Request, web.Application]
Connect = Callable[[web.Application], Awaitable[Client]]
Json = dict[str, Any]

TEST = {"x-api-key": "test_sk_sandbox"}
LIVE = {"X-API-Key": "live_sk_sandbox"}
SECRET = "webhook_secret_0123456789"
TRACKER = {
    "redirectURLTemplate": "https://shop.example/?m={{mailReference}}",
    "urlExpireAfterDays": 30,
}
LETTER = {"to": "contact_1", "from": "contact_2", "html": "<p>"}


@pytest.fixture
async def client(connect: Connect, static: Path, clock: Callable[[], int]) -> Client:
    settings = PostgridSandbox(now_ms=clock, retry_seconds=(0.01, 0.01, 0.01))
    return await connect(create_postgrid(settings, static))


@pytest.fixture
def account(client: Client) -> Account:
    assert client.app is not None
    return client.app[POSTGRID]


async def ask(
    client: Client, method: str, path: str, body: Any = None, *, key: dict[str, str] = TEST
) -> ClientResponse:
    return await client.request(method, f"{ROOT}{path}", json=body, headers=key)


async def get(client: Client, path: str) -> Json:
    answer = await ask(client, "GET", path)
    assert answer.status == 200, await answer.text()
    found: Json = await answer.json()
    return found


async def make(client: Client, path: str, body: Json, *, key: dict[str, str] = TEST) -> Json:
    answer = await ask(client, "POST", path, body, key=key)
    assert answer.status == 201, await answer.text()
    made: Json = await answer.json()
    return made


async def error(answer: ClientResponse) -> tuple[int, str]:
    told = await answer.json()
    assert told["object"] == "error"
    assert told["error"]["message"]
    return answer.status, told["error"]["type"]


# Errors


@pytest.mark.parametrize("key", [{}, {"x-api-key": "test_sk_other"}])
async def test_without_a_right_key_everything_is_401(client: Client, key: dict[str, str]) -> None:
    for path in ("/trackers", "/letters", "/webhooks", "/events"):
        assert await error(await ask(client, "GET", path, key=key)) == (401, "missing_auth_error")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/trackers", {}),
        ("/trackers", {**TRACKER, "urlExpireAfterDays": 31}),
        ("/trackers", {**TRACKER, "urlExpireAfterDays": "30"}),
        ("/trackers", {**TRACKER, "metadata": "x"}),
        ("/trackers", {"urlExpireAfterDays": 30}),
        ("/letters", {"to": "contact_1", "html": "<p>"}),
        ("/letters", {"to": "contact_1", "from": "contact_2"}),
        ("/letters", {**LETTER, "extraService": "pigeon"}),
        ("/letters", {**LETTER, "mergeVariables": []}),
        ("/postcards", {"to": "contact_1", "size": "6x4", "frontHTML": "<p>"}),
        ("/postcards", {"to": "c", "size": "1x1", "frontHTML": "a", "backHTML": "b"}),
        ("/postcards", {"to": "c", "size": "6x4", "pdf": "p", "extraService": "certified"}),
        ("/cheques", {"to": "contact_1", "from": "contact_2", "bankAccount": "bank_1"}),
        ("/cheques", {"to": "c", "from": "c", "bankAccount": "b", "amount": 0}),
        ("/self_mailers", {"to": "c", "from": "c", "size": "8.5x11_bifold", "insideHTML": "a"}),
        ("/webhooks", {"url": "https://shop.example"}),
        ("/webhooks", {"url": "ftp://shop.example", "enabledEvents": ["letter.created"]}),
        ("/webhooks", {"url": "http://shop.example", "enabledEvents": ["letter.created"]}),
        ("/webhooks", {"url": "https://shop.example", "enabledEvents": []}),
        ("/webhooks", {"url": "https://s.example", "enabledEvents": ["letter.delivered"]}),
        (
            "/webhooks",
            {"url": "https://s.example", "enabledEvents": ["letter.created"], "secret": "short"},
        ),
    ],
    ids=str,
)
async def test_a_wrong_body_is_a_validation_error(client: Client, path: str, body: Json) -> None:
    assert await error(await ask(client, "POST", path, body)) == (400, "validation_error")


async def test_a_body_that_is_no_json_is_a_validation_error(client: Client) -> None:
    answer = await client.post(f"{ROOT}/trackers", data=b"{", headers=TEST)
    assert await error(answer) == (400, "validation_error")


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "skip=-1", "sort=x"])
async def test_a_wrong_query_is_a_validation_error(client: Client, query: str) -> None:
    for path in ("/trackers", "/letters", "/webhooks", "/events"):
        answer = await ask(client, "GET", f"{path}?{query}")
        assert await error(answer) == (400, "validation_error")


async def test_events_cannot_be_searched(client: Client) -> None:
    assert (await ask(client, "GET", "/events?search=x")).status == 400


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/trackers/tracker_1"),
        ("POST", "/trackers/tracker_1"),
        ("DELETE", "/trackers/tracker_1"),
        ("GET", "/trackers/tracker_1/visits"),
        ("GET", "/letters/letter_1"),
        ("DELETE", "/letters/letter_1"),
        ("POST", "/letters/letter_1/cancellation"),
        ("POST", "/letters/letter_1/progressions"),
        ("GET", "/webhooks/webhook_1"),
        ("GET", "/webhooks/webhook_1/invocations"),
        ("DELETE", "/webhooks/webhook_1"),
        ("POST", "/self_mailers/self_mailer_1/cancellation"),
        ("GET", "/contacts"),
    ],
)
async def test_what_is_not_there_is_404(client: Client, method: str, path: str) -> None:
    body: Json | None = {} if method == "POST" else None
    assert await error(await ask(client, method, path, body)) == (404, "not_found_error")


async def test_an_order_is_not_found_among_another_kind(client: Client) -> None:
    made = await make(client, "/letters", LETTER)
    assert (await ask(client, "GET", f"/postcards/{made['id']}")).status == 404


async def test_above_the_rate_it_is_429(connect: Connect, static: Path) -> None:
    client = await connect(create_postgrid(PostgridSandbox(requests_per_second=2), static))
    seen = [await ask(client, "GET", "/trackers") for _ in range(3)]
    assert [answer.status for answer in seen] == [200, 200, 429]
    assert await error(seen[2]) == (429, "rate_limit_exceeded_error")


async def test_an_update_of_a_tracker_needs_both_fields_again(client: Client) -> None:
    made = await make(client, "/trackers", TRACKER)
    path = f"/trackers/{made['id']}"
    assert (await ask(client, "POST", path, {"urlExpireAfterDays": 60})).status == 400
    answer = await ask(client, "POST", path, {**TRACKER, "urlExpireAfterDays": 60})
    assert (answer.status, (await answer.json())["urlExpireAfterDays"]) == (200, 60)
    for method in ("PUT", "PATCH"):
        assert (await ask(client, method, path, TRACKER)).status == 405


# Listings and orders


async def test_a_listing_has_the_documented_envelope_and_defaults(client: Client) -> None:
    for _ in range(12):
        await make(client, "/letters", LETTER)
    page = await get(client, "/letters")
    assert set(page) == {"object", "limit", "skip", "totalCount", "data"}
    assert (page["object"], page["limit"], page["skip"], page["totalCount"]) == ("list", 10, 0, 12)
    assert len(page["data"]) == 10
    assert len((await get(client, "/letters?skip=10"))["data"]) == 2


async def test_a_live_order_is_not_progressed_but_the_post_reports_on_it(client: Client) -> None:
    made = await make(client, "/letters", LETTER, key=LIVE)
    answer = await ask(client, "POST", f"/letters/{made['id']}/progressions", key=LIVE)
    assert await error(answer) == (422, "invalid_progression_error")
    report = {"status": "printing", "imbStatus": "out_for_delivery", "imbZIPCode": "90210"}
    answer = await client.post(f"/_sandbox/orders/{made['id']}", json=report)
    told = await answer.json()
    assert {name: told[name] for name in report} == report
    assert told["imbDate"]


async def test_a_cancelled_order_can_be_neither_cancelled_nor_progressed(client: Client) -> None:
    made = await make(client, "/letters", LETTER)
    path = f"/letters/{made['id']}"
    assert (await ask(client, "POST", f"{path}/cancellation", {})).status == 400
    assert (await ask(client, "DELETE", path)).status == 200
    for method, below in (("DELETE", ""), ("POST", "/progressions")):
        assert (await ask(client, method, f"{path}{below}")).status == 422


# Links and visits


async def test_a_link_leads_on_with_the_order_s_variables_and_makes_a_visit(
    client: Client, account: Account
) -> None:
    template = "https://shop.example/{{to.firstName}}?m={{mailReference}}&x={{nothing}}&o={{id}}"
    tracker = await make(client, "/trackers", {**TRACKER, "redirectURLTemplate": template})
    letter = {
        **LETTER,
        "to": {"firstName": "Åsa & Bo"},
        "html": f"<p>{{{{{tracker['id']}}}}}</p><img src='{{{{{tracker['id']}.qrcode}}}}'>",
        "mergeVariables": {"mailReference": "m/1"},
    }
    order = await make(client, "/letters", letter)
    (link,) = account.links.values()
    answer = await client.get(link["path"], allow_redirects=False, headers={"User-Agent": "iPhone"})
    assert answer.status == 302
    assert answer.headers["Location"] == "https://shop.example/%C3%85sa%20%26%20Bo?m=m%2F1&x=&o="
    await client.get(link["path"], allow_redirects=False)
    visits = (await get(client, f"/trackers/{tracker['id']}/visits"))["data"]
    assert [visit["device"] for visit in visits] == ["Desktop", "Mobile"]
    assert {(visit["orderID"], visit["ipAddress"]) for visit in visits} == {
        (order["id"], "127.0.0.1")
    }
    shown = await get(client, f"/trackers/{tracker['id']}")
    assert (shown["visitCount"], shown["uniqueVisitCount"]) == (2, 1)


async def test_a_link_expires_and_goes_with_its_tracker(
    client: Client, account: Account, clock: Any
) -> None:
    tracker, order = (
        await make(client, "/trackers", TRACKER),
        await make(client, "/letters", LETTER),
    )
    piece = {"tracker": tracker["id"], "order": order["id"]}
    link = await (await client.post("/_sandbox/links", json=piece)).json()
    assert (await client.get(link["path"], allow_redirects=False)).status == 302
    clock.move(30 * 86_400)
    assert (await client.get(link["path"], allow_redirects=False)).status == 410
    await ask(client, "DELETE", f"/trackers/{tracker['id']}")
    assert (await client.get(link["path"], allow_redirects=False)).status == 404
    assert not account.visits


async def test_the_sandbox_s_own_calls_say_what_is_wrong(client: Client) -> None:
    wrong = [("links", {}), ("links", {"tracker": "t", "order": "o"}), ("visits", {"x": 1})]
    seen = [(await client.post(f"/_sandbox/{name}", json=body)).status for name, body in wrong]
    assert seen == [422, 404, 422]
    assert (await client.post("/_sandbox/orders/o", json={"status": "lost"})).status == 422
    assert (await client.post("/_sandbox/events/e/again")).status == 404


# Webhooks


class Endpoint:
    """Where webhooks go: answers by its list, then 200; notes what came."""

    def __init__(self) -> None:
        self.got: list[tuple[str, bytes]] = []
        self.answers: list[int] = []
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        self.got.append((request.headers.get("PostGrid-Signature", ""), await request.read()))
        return web.Response(status=self.answers.pop(0) if self.answers else 200)

    async def until(self, count: int) -> None:
        async with asyncio.timeout(5):
            while len(self.got) < count:
                await asyncio.sleep(0.005)


@pytest.fixture
async def endpoint() -> Any:
    endpoint = Endpoint()
    app = web.Application()
    app.router.add_post("/h", endpoint.take)
    server = TestServer(app)
    await server.start_server()
    endpoint.url = str(server.make_url("/h"))
    yield endpoint
    await server.close()


async def subscribe(client: Client, endpoint: Endpoint, **more: Any) -> Json:
    body = {"url": endpoint.url, "enabledEvents": list(EVENT_TYPES), "secret": SECRET, **more}
    return await make(client, "/webhooks", body)


async def noted(account: Account, count: int) -> list[int]:
    async with asyncio.timeout(5):
        while len(account.invocations) < count:
            await asyncio.sleep(0.005)
    return [each["statusCode"] for each in account.invocations.values()]


def claims_of(token: bytes) -> Json:
    """Read a token by the standard (RFC 7515), with code of its own."""
    head, body, code = token.split(b".")
    key = SECRET.encode()
    expected = base64.urlsafe_b64encode(hmac.digest(key, head + b"." + body, hashlib.sha256))
    assert hmac.compare_digest(code, expected.rstrip(b"="))
    assert orjson.loads(base64.urlsafe_b64decode(head + b"==")) == {"alg": "HS256", "typ": "JWT"}
    claims: Json = orjson.loads(base64.urlsafe_b64decode(body + b"=="))
    return claims


async def test_a_jwt_webhook_is_the_bare_token_with_three_claims(
    client: Client, endpoint: Endpoint, clock: Any
) -> None:
    await subscribe(client, endpoint)
    order = await make(client, "/letters", LETTER)
    await endpoint.until(1)
    header, token = endpoint.got[0]
    assert not header
    assert claims_of(token) == {"type": "letter.created", "data": order, "iat": clock.ms // 1000}


async def test_a_json_webhook_is_signed_over_time_and_body(
    client: Client, endpoint: Endpoint, clock: Any
) -> None:
    await subscribe(client, endpoint, payloadFormat="json")
    order = await make(client, "/letters", LETTER)
    await endpoint.until(1)
    header, body = endpoint.got[0]
    signed = f"{clock.ms}.".encode() + body
    code = hmac.new(SECRET.encode(), signed, hashlib.sha256).hexdigest()
    assert header == f"t={clock.ms},v1={code}"
    told = orjson.loads(body)
    assert body == orjson.dumps(told)  # minified
    assert (told["type"], told["data"], told["object"]) == ("letter.created", order, "event")


def test_the_signature_is_that_of_the_worked_example() -> None:
    """postgrid.md, "Wire examples"."""
    body = b'{"type":"tracker.visited","data":{"id":"tracker_visit_demo1"}}'
    assert signature(body, "webhook_secret_demo_0123456789", 1_795_000_000_000) == (
        "t=1795000000000,v1=4e5b2928679cc955fccaca760a593881e216d3f6ad9c897f89cf06645d5c1caa"
    )


async def test_only_200_will_do_and_there_are_three_retries(
    client: Client, endpoint: Endpoint, account: Account
) -> None:
    await subscribe(client, endpoint)
    endpoint.answers = [500, 204, 302, 404]
    await make(client, "/letters", LETTER)
    assert await noted(account, 4) == [500, 204, 302, 404]
    endpoint.answers = [500]
    await make(client, "/letters", LETTER)
    assert await noted(account, 6) == [500, 204, 302, 404, 500, 200]
    assert len(account.events) == 2


async def test_a_retry_that_waits_can_be_hurried(connect: Connect, static: Path) -> None:
    app = create_postgrid(PostgridSandbox(answer_seconds=1), static)
    client, account = await connect(app), app[POSTGRID]
    body = {"url": "http://127.0.0.1:1/h", "enabledEvents": ["letter.created"]}
    await make(client, "/webhooks", body)
    await make(client, "/letters", LETTER)
    for count in (1, 2):
        assert await noted(account, count) == [0] * count
        await client.post("/_sandbox/hurry")


async def test_webhooks_hear_of_their_mode_and_types_only_and_unheard_events_are_not_made(
    client: Client, endpoint: Endpoint, account: Account
) -> None:
    await make(client, "/letters", LETTER)
    assert not account.events
    hook = await subscribe(client, endpoint, enabledEvents=["letter.updated"])
    live = await make(client, "/letters", LETTER, key=LIVE)
    await client.post(f"/_sandbox/orders/{live['id']}", json={"status": "printing"})
    order = await make(client, "/letters", LETTER)
    await ask(client, "POST", f"/letters/{order['id']}/progressions")
    await endpoint.until(1)
    await ask(client, "POST", f"/webhooks/{hook['id']}", {"enabled": False})
    await ask(client, "POST", f"/letters/{order['id']}/progressions")
    (event,) = (await get(client, "/events"))["data"]
    assert set(event) == {"id", "object", "type", "live", "data", "updatedFields", "createdAt"}
    assert (event["type"], event["updatedFields"]) == ("letter.updated", {"status": "printing"})
    assert len(endpoint.got) == 1


async def test_a_new_format_counts_from_the_next_delivery_on(
    client: Client, endpoint: Endpoint
) -> None:
    hook = await subscribe(client, endpoint)
    await make(client, "/letters", LETTER)
    await endpoint.until(1)
    await ask(client, "POST", f"/webhooks/{hook['id']}", {"payloadFormat": "json"})
    await make(client, "/letters", LETTER)
    await endpoint.until(2)
    assert [bool(header) for header, _ in endpoint.got] == [False, True]


@pytest.mark.parametrize("held", ["visit", "tracker"])
async def test_a_visit_is_told_and_may_be_told_again(
    connect: Connect, static: Path, endpoint: Endpoint, held: Any
) -> None:
    app = create_postgrid(PostgridSandbox(visited_data=held), static)
    client = await connect(app)
    await subscribe(client, endpoint, enabledEvents=["tracker.visited"])
    tracker, order = (
        await make(client, "/trackers", TRACKER),
        await make(client, "/letters", LETTER),
    )
    piece = {"tracker": tracker["id"], "order": order["id"], "ipAddress": "203.0.113.9"}
    visit = await (await client.post("/_sandbox/visits", json=piece)).json()
    await endpoint.until(1)
    claims = claims_of(endpoint.got[0][1])
    expected = visit["id"] if held == "visit" else tracker["id"]
    assert (claims["type"], claims["data"]["id"]) == ("tracker.visited", expected)
    (event,) = app[POSTGRID].events
    assert (await client.post(f"/_sandbox/events/{event}/again")).status == 202
    await endpoint.until(2)
    assert claims_of(endpoint.got[1][1])["data"]["id"] == expected


@pytest.mark.parametrize(("resign", "times"), [(True, 2), (False, 1)])
async def test_whether_a_retry_is_signed_anew_can_be_chosen(
    connect: Connect, static: Path, endpoint: Endpoint, clock: Any, *, resign: bool, times: int
) -> None:
    settings = PostgridSandbox(resign_retries=resign, now_ms=clock)
    client = await connect(create_postgrid(settings, static))
    await subscribe(client, endpoint, enabledEvents=["letter.created"])
    endpoint.answers = [503]
    await make(client, "/letters", LETTER)
    await endpoint.until(1)
    clock.move(3600)
    async with asyncio.timeout(5):
        while len(endpoint.got) < 2:
            await client.post("/_sandbox/hurry")
    assert len({claims_of(token)["iat"] for _, token in endpoint.got}) == times


# The page


async def test_the_page_shows_what_is_held_and_no_secret(
    client: Client, endpoint: Endpoint
) -> None:
    await subscribe(client, endpoint)
    await make(client, "/letters", LETTER)
    answer = await client.get("/_sandbox/state?last=50")
    text = await answer.text()
    state = orjson.loads(text)
    assert state["service"] == "PostGrid"
    assert set(state["totals"]) == {
        "trackers",
        "visits",
        "orders",
        "links",
        "webhooks",
        "events",
        "invocations",
    }
    assert all(len(state[name]) == total for name, total in state["totals"].items())
    assert SECRET not in text


async def test_the_example_is_there_from_the_start_and_after_everything_is_forgotten(
    connect: Connect, static: Path
) -> None:
    settings = PostgridSandbox(
        landing="https://shop.example/", webhook_url="https://g.example/h", webhook_secret=SECRET
    )
    app = create_postgrid(settings, static)
    client, account = await connect(app), app[POSTGRID]
    for _ in range(2):
        (link,) = account.links.values()
        assert "mail_ref=autumn-0001" in link["leadsTo"]
        assert len(account.webhooks) == 1
        assert not account.events
        assert (await client.delete("/_sandbox/state")).status == 204
