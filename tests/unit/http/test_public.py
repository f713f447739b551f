"""The public application: every answer that DESIGN promises, over real HTTP."""

import asyncio
import gzip
import json
import zlib
from typing import Any

import aiohttp
import orjson
import pytest

from gateway.http.addresses import RateLimit, client_address
from gateway.http.answers import ANSWERS, Trouble
from gateway.http.collector import hashed
from gateway.http.cookies import read_cookies, set_cookie
from gateway.http.public import PIXEL
from gateway.ingest import Problem
from gateway.metrics import REQUEST_SECONDS
from gateway.ports import Log
from tests.unit.http.conftest import NOW, ORIGIN, Gateway, page, request, told

BAD = {"type": "page"}
SERVER = {"Authorization": "Bearer sk_secret", "Origin": ""}


# Answers to events


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "text/plain; charset=utf-8"])
async def test_accepted_and_duplicate_events_are_answered_204_without_a_body(
    gateway: Gateway, kind: str
) -> None:
    for _ in range(2):
        answer = await gateway.post(request(), {"Content-Type": kind})
        assert answer.status == 204
        assert answer._body == b""
        assert "Content-Type" not in answer.headers
        assert "Cache-Control" not in answer.headers
    assert [each.id for each in await gateway.envelopes()] == ["e-1"]


async def test_events_are_taken_with_a_query_too_and_from_clients_that_ask_first(
    gateway: Gateway,
) -> None:
    url = "/v1/events?from=page"
    async with gateway.client.post(url, json=request(), headers={"Origin": ORIGIN}) as answer:
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    asking = gateway.client.post(
        "/v1/events", json=request(page(2)), headers={"Origin": ORIGIN}, expect100=True
    )
    async with asyncio.timeout(5), asking as answer:
        assert answer.status == 204
    assert [each.id for each in await gateway.envelopes()] == ["e-1", "e-2"]


async def test_a_mix_is_answered_200_with_a_result_for_each_event(gateway: Gateway) -> None:
    await gateway.post(request(page(1)))
    answer = await gateway.post(request(page(1), BAD, page(2), {**page(3), "x": 1}, None))
    assert answer.status == 200
    assert "Cache-Control" not in answer.headers
    results = json.loads(answer._body or b"")["results"]
    assert [each["outcome"] for each in results] == [
        "duplicate",
        "rejected",
        "accepted",
        "rejected",
        "rejected",
    ]
    assert results[0] == {"index": 0, "id": "e-1", "outcome": "duplicate"}
    assert results[1]["reason"] == "missing_field"
    assert results[1]["field"] == "id"
    assert "id" in results[1]["message"]
    assert "id" not in results[1]
    assert "field" not in results[4]


async def test_all_rejected_is_answered_422_with_results(gateway: Gateway) -> None:
    answer = await gateway.post(request(BAD, BAD))
    assert answer.status == 422
    assert len(json.loads(answer._body or b"")["results"]) == 2


async def test_a_server_key_gets_results_in_place_of_204(gateway: Gateway) -> None:
    body = {"events": [page()]}
    for outcome in ("accepted", "duplicate"):
        answer = await gateway.post(body, SERVER)
        assert answer.status == 200
        expected = [{"index": 0, "id": "e-1", "outcome": outcome}]
        assert json.loads(answer._body or b"") == {"results": expected}
    assert (await gateway.post({"events": [BAD]}, SERVER)).status == 422


@pytest.mark.parametrize(
    ("body", "headers", "status", "error"),
    [
        (b"{", {}, 400, "not_a_request"),
        ({"key": "pk_shop"}, {}, 400, "not_a_request"),
        ({**request(), "key": "pk_no"}, {}, 401, "unknown_key"),
        (request(), {"Authorization": "Bearer sk_no"}, 401, "unknown_key"),
        (request(), {"Authorization": "Basic c2s6"}, 401, "unknown_key"),
        (request(), {"Origin": "https://evil.example"}, 403, "origin_not_allowed"),
        (request(), {"Origin": ""}, 403, "origin_not_allowed"),
        (request(*[page(each) for each in range(501)]), {}, 413, "too_many_events"),
        (b" " * (1024 * 1024 + 1), {}, 413, "too_large"),
        (request(), {"Content-Type": "text/html"}, 415, "unsupported_type"),
        (request(), {"Content-Type": "multipart/form-data"}, 415, "unsupported_type"),
        (request(), {"Content-Encoding": "br"}, 415, "unsupported_encoding"),
        (request(), {"Content-Encoding": "gzip"}, 400, "bad_request"),
        (request(), {"Content-Encoding": "deflate"}, 400, "bad_request"),
    ],
)
async def test_an_error_has_its_status_and_says_what_to_do(
    gateway: Gateway, body: Any, headers: dict[str, str], status: int, error: str
) -> None:
    answer = await gateway.post(body, headers)
    assert answer.status == status
    assert told(answer)["error"] == error
    assert not await gateway.envelopes()


async def test_what_is_wrong_with_a_request_is_said(gateway: Gateway) -> None:
    assert "events" in told(await gateway.post({"key": "pk_shop"}))["message"]


async def test_503_says_when_to_come_back_and_the_retry_is_written(gateway: Gateway) -> None:
    gateway.buffer.outage = True
    answer = await gateway.post(request())
    assert answer.status == 503
    assert int(answer.headers["Retry-After"]) > 0
    assert told(answer)["error"] == "unavailable"
    gateway.buffer.outage = False
    assert (await gateway.post(request())).status == 204
    assert len(await gateway.envelopes()) == 1


async def test_no_answer_is_given_before_the_buffer_acknowledges(gateway: Gateway) -> None:
    gateway.buffer.hold(Log.EVENTS, written=True)
    waiting = asyncio.ensure_future(gateway.post(request()))
    async with asyncio.timeout(5):
        while not gateway.buffer.publishes:
            await asyncio.sleep(0.001)
    done, _ = await asyncio.wait({waiting}, timeout=0.05)
    assert not done
    gateway.buffer.release()
    assert (await waiting).status == 204


@pytest.mark.logs_errors("a request to .* failed")
async def test_an_error_of_our_own_is_answered_500_and_logged(gateway: Gateway) -> None:
    gateway.buffer.fail_next(error=RuntimeError("secret"))  # type: ignore[arg-type]  # a bug's error
    answer = await gateway.post(request())
    assert answer.status == 500
    assert "secret" not in told(answer)["message"]


@pytest.mark.parametrize("http_settings", [{"max_in_flight": 1}], indirect=True)
async def test_more_requests_at_once_than_allowed_are_answered_503(gateway: Gateway) -> None:
    gateway.buffer.hold(Log.EVENTS, written=True)
    first = asyncio.ensure_future(gateway.post(request()))
    async with asyncio.timeout(5):
        while not gateway.buffer.publishes:
            await asyncio.sleep(0.001)
    answer = await gateway.post(request(page(2)))
    assert answer.status == 503
    assert told(answer)["error"] == "busy"
    assert answer.headers["Retry-After"] == "1"
    gateway.buffer.release()
    assert (await first).status == 204
    assert (await gateway.post(request(page(2)))).status == 204


@pytest.mark.parametrize("http_settings", [{"requests_per_second": 2}], indirect=True)
async def test_an_address_over_its_rate_is_answered_429(gateway: Gateway) -> None:
    answers = [await gateway.post(request(page(each))) for each in range(3)]
    assert [each.status for each in answers] == [204, 204, 429]
    assert told(answers[2])["error"] == "rate_limited"
    assert answers[2].headers["Retry-After"] == "1"
    claimed = await gateway.post(request(), {"X-Forwarded-For": "192.0.2.1"})
    assert claimed.status == 429, "an address is not believed from just anybody"


@pytest.mark.parametrize(
    "http_settings",
    [{"requests_per_second": 1, "trusted_proxies": ["127.0.0.1"]}],
    indirect=True,
)
async def test_a_trusted_proxy_says_whose_request_it_is(gateway: Gateway) -> None:
    addresses = ["192.0.2.1", "192.0.2.2", "192.0.2.1", "192.0.2.9, 192.0.2.2"]
    answers = [await gateway.post(request(), {"X-Forwarded-For": each}) for each in addresses]
    assert [each.status for each in answers] == [204, 204, 429, 429]


@pytest.mark.parametrize(
    "http_settings",
    [{"requests_per_second": 1, "trusted_proxies": ["127.0.0.1"]}],
    indirect=True,
)
async def test_what_a_proxy_adds_as_a_line_of_its_own_counts_before_the_clients_claim(
    gateway: Gateway,
) -> None:
    body = orjson.dumps(request())
    statuses = []
    for claim in (b"192.0.2.8", b"192.0.2.9"):
        head = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        sent = b"Origin: https://shop.example\r\nContent-Type: text/plain\r\n"
        hops = b"X-Forwarded-For: " + claim + b"\r\nX-Forwarded-For: 192.0.2.1\r\n"
        size = b"Content-Length: %d\r\n\r\n" % len(body)
        answer = await raw(gateway, head + sent + hops + size + body)
        statuses.append(answer.split(b" ", 2)[1])
    assert statuses == [b"204", b"429"]


@pytest.mark.parametrize("http_settings", [{"body_seconds": 0.05}], indirect=True)
async def test_a_body_that_stalls_is_answered_408(gateway: Gateway) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(
        b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
        b"Content-Length: 100\r\n\r\n{"
    )
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"error":"body_stalled"' in answer


# Bodies


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("deflate", raw_deflate)],
)
async def test_a_compressed_body_is_inflated_up_to_its_bound(
    gateway: Gateway, encoding: str, pack: Any
) -> None:
    headers = {"Content-Encoding": encoding}
    body = orjson.dumps(request())
    full = body + b" " * (1024 * 1024 - len(body))
    assert (await gateway.post(pack(full), headers)).status == 204
    assert (await gateway.post(pack(full + b" "), headers)).status == 413
    assert (await gateway.post(pack(body)[:-5], headers)).status == 400
    assert (await gateway.post(pack(body) + b"more", headers)).status == 400


async def test_a_bomb_does_not_go_off(gateway: Gateway) -> None:
    bomb = gzip.compress(b" " * 100_000_000, 1)
    answer = await gateway.post(bomb, {"Content-Encoding": "gzip"})
    assert answer.status == 413
    assert told(answer)["error"] == "too_large"


async def test_a_body_of_unknown_length_is_bounded_too(gateway: Gateway) -> None:
    async def endless() -> Any:
        for _ in range(40):
            yield b" " * 64 * 1024

    headers = {"Origin": ORIGIN, "Content-Type": "text/plain"}
    async with gateway.client.post("/v1/events", data=endless(), headers=headers) as answer:
        assert answer.status == 413


async def test_a_body_in_pieces_is_put_together(gateway: Gateway) -> None:
    async def pieces() -> Any:
        for byte in orjson.dumps(request()):
            yield bytes([byte])

    headers = {"Origin": ORIGIN, "Content-Type": "text/plain"}
    async with gateway.client.post("/v1/events", data=pieces(), headers=headers) as answer:
        assert answer.status == 204


# Pages of other origins


async def test_a_page_may_read_its_answer_whatever_it_is(gateway: Gateway) -> None:
    for body in (request(), request(BAD), b"{", {**request(), "key": "no"}):
        answer = await gateway.post(body)
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert answer.headers["Access-Control-Allow-Credentials"] == "true"
        assert answer.headers["Access-Control-Expose-Headers"] == "Retry-After"
        assert answer.headers["Vary"] == "Origin"


async def test_a_strange_origin_is_not_echoed(gateway: Gateway) -> None:
    answer = await gateway.post(request(), {"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert answer.headers["Vary"] == "Origin"


async def test_a_preflight_for_json_is_allowed_on_the_shops_origin_only(gateway: Gateway) -> None:
    asks = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    answer = await gateway.get("/v1/events", {"Origin": ORIGIN, **asks}, "OPTIONS")
    assert answer.status == 204
    assert answer._body == b""
    assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
    assert answer.headers["Access-Control-Allow-Credentials"] == "true"
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    assert "content-type" in answer.headers["Access-Control-Allow-Headers"]
    assert answer.headers["Vary"] == "Origin"
    assert int(answer.headers["Access-Control-Max-Age"]) > 0
    strange = {"Origin": "https://evil.example", **asks}
    refused = await gateway.get("/v1/events", strange, "OPTIONS")
    assert refused.status == 403
    assert "Access-Control-Allow-Origin" not in refused.headers


# Consent and cookies


async def test_with_full_consent_ids_are_remembered_in_cookies_out_of_scripts_reach(
    gateway: Gateway,
) -> None:
    body = request(consent="full", visitorId="v;1 å", clickId="k", contactId="c")
    answer = await gateway.post(body)
    cookies = answer.headers.getall("Set-Cookie")
    since = f"~{NOW}"
    names = {
        "gateway_visitor": "v%3B1%20%C3%A5",
        "gateway_contact": f"c{since}",
        "gateway_click": "k",
    }
    rest = "; Max-Age=34560000; Path=/; HttpOnly; Secure; SameSite=Lax"
    assert cookies == [f"{name}={value}{rest}" for name, value in names.items()]
    brought = "; ".join(each.partition(";")[0] for each in cookies)
    await gateway.post(request(page(2), consent="full"), {"Cookie": f"x=1; {brought}"})
    fields = (await gateway.envelopes())[1].fields()
    assert (fields["visitorId"], fields["clickId"], fields["contactId"]) == ("v;1 å", "k", "c")


async def test_a_lead_weeks_after_the_click_still_carries_its_click_id(gateway: Gateway) -> None:
    lead = {**page(), "type": "lead", "eventName": "Sign up", "customerId": "u"}
    await gateway.post(request(lead, consent="full"), {"Cookie": "gateway_click=dub-1"})
    assert (await gateway.envelopes())[0].fields()["clickId"] == "dub-1"


@pytest.mark.parametrize(
    ("consent", "headers"), [("limited", {}), (None, {}), ("full", {"Sec-GPC": "1"}), ("none", {})]
)
async def test_with_less_consent_no_cookie_is_set_or_used_and_what_came_is_deleted(
    gateway: Gateway, consent: str | None, headers: dict[str, str]
) -> None:
    answer = await gateway.post(request(consent=consent, visitorId="v"), headers)
    assert "Set-Cookie" not in answer.headers
    headers = {**headers, "Cookie": "gateway_visitor=old; other=x"}
    answer = await gateway.post(request(page(2), consent=consent, visitorId="v"), headers)
    rest = "; Max-Age=0; Path=/; HttpOnly; Secure; SameSite=Lax"
    assert answer.headers.getall("Set-Cookie") == [f"gateway_visitor={rest}"]
    assert all(each.context == {} for each in await gateway.envelopes())


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (None, {}),
        ("", {}),
        ("a=b", {}),
        ("gateway_visitor=", {}),
        ("gateway_contact=~12", {}),
        ("gateway_visitor=" + "v" * 101, {}),
        ("gateway_contact=" + "c" * 65, {}),
        ("gateway_visitor=%00", {}),
        ("gateway_other=1", {}),
        ("gateway_visitor", {}),
        (" gateway_visitor=v=1 ;gateway_click=k", {"visitorId": "v=1", "clickId": "k"}),
    ],
)
def test_a_cookie_that_cannot_be_an_id_is_not_believed(
    header: str | None, found: dict[str, str]
) -> None:
    assert read_cookies(header) == (found, None)


def test_a_contacts_cookie_says_since_when() -> None:
    pair = set_cookie("contactId", "c~1 å", 1234).partition(";")[0]
    assert read_cookies(pair) == ({"contactId": "c~1 å"}, 1234)
    assert read_cookies("gateway_contact=c") == ({"contactId": "c"}, 0)
    assert read_cookies("gateway_contact=c~x") == ({"contactId": "c~x"}, 0)
    assert read_cookies("gateway_contact=c~" + "9" * 16) == ({"contactId": "c~" + "9" * 16}, 0)


async def test_a_contacts_cookie_keeps_its_time_while_the_contact_stays(gateway: Gateway) -> None:
    for cookie, since in (("c~5", 5), ("d~5", NOW), ("c", 0)):
        answer = await gateway.post(
            request(page(since), consent="full", contactId="c"),
            {"Cookie": f"gateway_contact={cookie}"},
        )
        (header,) = answer.headers.getall("Set-Cookie")
        assert header.startswith(f"gateway_contact=c~{since};")


def test_a_cookie_can_hold_any_id_and_nothing_else() -> None:
    header = set_cookie("visitorId", "v; Domain=evil\r\nX: 1", 0)
    assert header.startswith("gateway_visitor=v%3B%20Domain%3Devil%0D%0AX%3A%201; Max-Age=")


@pytest.mark.parametrize(("purpose", "marks"), [("prefetch;prerender", ("prerender",)), ("", ())])
async def test_a_prerendered_page_is_marked(
    gateway: Gateway, purpose: str, marks: tuple[str, ...]
) -> None:
    await gateway.post(request(), {"Sec-Purpose": purpose, "User-Agent": "Firefox"})
    assert (await gateway.envelopes())[0].marks == marks


# The pixel


async def test_the_pixel_is_a_page_event_with_limited_consent(gateway: Gateway) -> None:
    path = f"/v1/pixel.gif?key=pk_shop&url={ORIGIN}/p?vtid=x&title=Shoes"
    for headers in ({"Referer": f"{ORIGIN}/p"}, {}):
        answer = await gateway.get(path, headers)
        assert answer.status == 200
        assert answer.content_type == "image/gif"
        assert answer._body == PIXEL
        assert "no-store" not in answer.headers["Cache-Control"]
        assert "Set-Cookie" not in answer.headers
    assert len(PIXEL) == 43
    first, second = await gateway.envelopes()
    assert first.id != second.id
    assert first.consent == "limited"
    assert first.fields()["title"] == "Shoes"
    assert first.fields()["url"] == f"{ORIGIN}/p"


async def test_the_pixel_takes_the_pages_address_from_the_referrer(gateway: Gateway) -> None:
    await gateway.get("/v1/pixel.gif?key=pk_shop", {"Referer": f"{ORIGIN}/p"})
    assert (await gateway.envelopes())[0].fields()["url"] == f"{ORIGIN}/p"


@pytest.mark.parametrize(
    ("query", "referrer", "status"),
    [
        ("key=no", f"{ORIGIN}/p", 401),
        ("", f"{ORIGIN}/p", 401),
        ("key=pk_shop", "https://evil.example/", 403),
        ("key=pk_shop", "", 403),
        ("key=pk_shop", "https://[", 403),
        (f"key=pk_shop&url={ORIGIN}/p&title={'t' * 501}", "", 422),
    ],
)
async def test_the_pixel_is_refused_like_other_events_and_shown_all_the_same_for_a_valid_key(
    gateway: Gateway, query: str, referrer: str, status: int
) -> None:
    answer = await gateway.get(f"/v1/pixel.gif?{query}", {"Referer": referrer} if referrer else {})
    assert answer.status == status
    if status == 422:
        assert (answer._body, answer.content_type) == (PIXEL, "image/gif")
        assert answer.headers["Gateway-Rejection"] == "over_limit"
    else:
        told(answer)
    assert not await gateway.envelopes()


async def test_the_pixel_too_is_answered_only_when_it_is_durable(gateway: Gateway) -> None:
    gateway.buffer.outage = True
    answer = await gateway.get(f"/v1/pixel.gif?key=pk_shop&url={ORIGIN}/p")
    assert answer.status == 503
    assert "Retry-After" in answer.headers


# The collector


@pytest.mark.parametrize("name", ["collector.js", "collector.mjs", "adapters/dub.js"])
@pytest.mark.parametrize(
    ("accepted", "encoding", "body"),
    [
        ("gzip, deflate, br, zstd", "br", b"brotli"),
        ("gzip;q=1.0, br;q=0", "gzip", b"gzip"),
        ("identity", None, b"plain"),
        ("", None, b"plain"),
    ],
)
async def test_the_collector_comes_ready_made_in_each_encoding(
    gateway: Gateway, accepted: str, encoding: str | None, body: bytes, name: str
) -> None:
    tags = set()
    for path, cache in (
        (f"/{name}", "public, max-age=3600"),
        (f"/{hashed(name, 'abc123')}", "public, max-age=31536000, immutable"),
    ):
        answer = await gateway.get(path, {"Accept-Encoding": accepted})
        assert answer.status == 200
        assert answer._body == body
        assert answer.headers.get("Content-Encoding") == encoding
        assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
        assert answer.headers["Cache-Control"] == cache
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert answer.headers["Vary"] == "Accept-Encoding"
        tags.add(answer.headers["ETag"])
    (tag,) = tags
    again = {"Accept-Encoding": accepted, "If-None-Match": tag}
    assert (await gateway.get(f"/{name}", again)).status == 304


@pytest.mark.parametrize(
    "path", ["/collector.js", "/collector.abc123.js", "/collector.mjs", "/adapters/dub.js"]
)
async def test_a_collector_that_was_not_built_is_not_there(
    gateway_without_collector: Gateway, path: str
) -> None:
    answer = await gateway_without_collector.get(path)
    assert answer.status == 404
    assert told(answer)["error"] == "no_collector"


async def test_a_collector_of_another_build_is_not_there(gateway: Gateway) -> None:
    answer = await gateway.get("/collector.old.js")
    assert answer.status == 404
    assert told(answer)["error"] == "no_collector"


# The rest


@pytest.mark.parametrize(
    "path",
    ["/", "/v1", "/v1/event", "/collector.js/x", "/..%2fetc", "/adapters/x.js", "/adapters/dub.md"],
)
async def test_what_is_not_there_is_answered_404(gateway: Gateway, path: str) -> None:
    answer = await gateway.get(path)
    assert answer.status == 404
    assert told(answer)["error"] == "not_found"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("GET", "/v1/events", "OPTIONS,POST"), ("DELETE", "/collector.js", "GET,HEAD")],
)
async def test_a_wrong_method_is_answered_405_with_the_right_ones(
    gateway: Gateway, method: str, path: str, allow: str
) -> None:
    answer = await gateway.get(path, method=method)
    assert answer.status == 405
    assert answer.headers["Allow"] == allow
    assert told(answer)["error"] == "method_not_allowed"


async def raw(gateway: Gateway, data: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(data)
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize(
    ("line", "header", "status"),
    [
        (b"POST /v1/events", b"Authorization: Bearer \xff\xfe", b"401"),
        (b"POST /v1/events", b"Authorization: \xff", b"401"),
        (b"GET /v1/pixel.gif?key=pk_shop", b"Referer: https://shop.example/\xff", b"403"),
    ],
)
async def test_a_header_of_bytes_that_are_no_text_is_the_clients_fault(
    gateway: Gateway, line: bytes, header: bytes, status: bytes
) -> None:
    body = orjson.dumps({"events": [page()]})
    head = (
        b"Host: x\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"
        % len(body)
    )
    answer = await raw(gateway, line + b" HTTP/1.1\r\n" + head + header + b"\r\n\r\n" + body)
    assert answer.split(b" ", 2)[1] == status


async def test_a_header_that_is_too_long_is_answered_431(gateway: Gateway) -> None:
    cookie = b"Cookie: " + b"a" * 9000
    answer = await raw(gateway, b"GET / HTTP/1.1\r\nHost: x\r\n" + cookie + b"\r\n\r\n")
    assert b" 431 " in answer.splitlines()[0]
    assert b'"error":"headers_too_large"' in answer
    answer = await raw(gateway, b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b" 431 " in answer.splitlines()[0]


async def test_too_many_headers_are_answered_431(gateway: Gateway) -> None:
    many = b"".join(b"X-%d: a\r\n" % number for number in range(129))
    answer = await raw(gateway, b"GET / HTTP/1.1\r\n" + many + b"\r\n")
    assert b" 431 " in answer.splitlines()[0]
    assert b"more than 128 headers" in answer


async def test_what_nobody_can_expect_is_answered_400_in_plain_words(gateway: Gateway) -> None:
    head = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: wonders\r\n\r\n"
    answer = await raw(gateway, head)
    assert b" 400 " in answer.splitlines()[0]
    assert b'"error":"bad_request"' in answer


async def test_what_is_no_http_is_answered_400(gateway: Gateway) -> None:
    answer = await raw(gateway, b"\x16\x03\x01\x02\x00\x01\r\n\r\n")
    assert b" 400 " in answer.splitlines()[0]
    assert b'"error":"bad_request"' in answer


async def test_a_body_whose_pieces_are_broken_is_answered_400(gateway: Gateway) -> None:
    head = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
    answer = await raw(gateway, head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n")
    assert b" 400 " in answer.splitlines()[0]


async def test_a_request_is_timed_by_route_and_status(gateway: Gateway) -> None:
    def count(route: str, status: str) -> float:
        samples = REQUEST_SECONDS.labels(route, status)._child_samples()
        return next(each.value for each in samples if each.name == "_count")

    before = count("/v1/events", "204"), count("none", "404")
    await gateway.post(request())
    await gateway.get("/wp-login.php")
    assert (count("/v1/events", "204"), count("none", "404")) == (before[0] + 1, before[1] + 1)


def test_every_problem_has_an_answer_in_plain_words() -> None:
    assert set(ANSWERS) == {*Problem, *Trouble}
    for answer in ANSWERS.values():
        assert answer.message.endswith(".")
        assert (answer.status in {429, 503}) == (answer.retry_after_seconds is not None)


@pytest.mark.parametrize(
    ("remote", "forwarded", "expected"),
    [
        ("192.0.2.1", "", "192.0.2.1"),
        ("192.0.2.1", "198.51.100.1", "192.0.2.1"),
        ("10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", "6.6.6.6, 198.51.100.1, 10.0.0.2", "198.51.100.1"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "rubbish", "unknown"),
        ("2001:db8:1:2:3::4", "", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "", "192.0.2.1"),
        ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        (None, "1.2.3.4", "unknown"),
    ],
)
def test_a_client_is_the_nearest_address_that_is_no_trusted_proxy(
    remote: str | None, forwarded: str, expected: str
) -> None:
    from ipaddress import ip_network  # noqa: PLC0415 - used here only

    assert client_address(remote, forwarded, [ip_network("10.0.0.0/8")]) == expected


def test_a_rate_limit_remembers_a_bounded_number_of_addresses() -> None:
    limit = RateLimit(1, most=2)
    assert limit.allows("a", 0)
    assert not limit.allows("a", 0.5)
    assert limit.allows("a", 1.5)
    assert limit.allows("b", 1.5)
    assert limit.allows("c", 1.5)
    assert limit.allows("a", 1.5), "a was forgotten, for it was quiet longest"


@pytest.mark.parametrize("reset", [False, True])
async def test_a_client_that_goes_away_in_its_body_is_no_error_of_ours(
    gateway: Gateway,
    reset: bool,  # noqa: FBT001 - pytest names it
) -> None:
    def declined() -> float:
        samples = REQUEST_SECONDS.labels("/v1/events", 408)._child_samples()
        return next(each.value for each in samples if each.name == "_count")

    before = declined()
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    head = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n"
    writer.write(head + b"Content-Length: 100\r\n\r\n{")
    await writer.drain()
    await asyncio.sleep(0)
    if reset:
        writer.transport.abort()
    else:
        writer.close()
    async with asyncio.timeout(5):
        while declined() == before:
            await asyncio.sleep(0.005)
    assert (await gateway.post(request())).status == 204


async def test_a_client_that_gives_up_does_no_harm(gateway: Gateway) -> None:
    gateway.buffer.hold(Log.EVENTS, written=True)
    with pytest.raises(asyncio.TimeoutError):
        await gateway.client.post(
            "/v1/events",
            data=orjson.dumps(request()),
            headers={"Origin": ORIGIN, "Content-Type": "text/plain"},
            timeout=aiohttp.ClientTimeout(total=0.05),
        )
    gateway.buffer.release()
    assert (await gateway.post(request())).status == 204
    assert len(await gateway.envelopes()) == 1
