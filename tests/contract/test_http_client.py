"""AiohttpClient: every way an exchange can end is a value that says whether it may have begun."""

import asyncio
import socket

import pytest
from aiohttp.test_utils import TestServer, unused_port

from gateway.adapters.http_client import ANSWER_BYTES, AiohttpClient
from gateway.model.attempt import Answered, Unanswered
from gateway.model.outcome import Reason
from tests.contract.scripted import (
    Answer,
    Scripted,
    dripping,
    endless,
    hang_up,
    no_http,
    silence,
    status,
    unfinished,
)


async def post(
    http: AiohttpClient, url: str, seconds: float = 5.0, body: bytes = b"{}"
) -> Answered | Unanswered:
    return await http.exchange("POST", url, {"X-Secret": "s3cret"}, body, seconds)


async def test_an_answer_comes_with_status_body_and_retry_after(
    http: AiohttpClient, scripted: Scripted
) -> None:
    date = "Sat, 21 Nov 2026 10:15:00 GMT"
    scripted.expect(status(429, "slow down", retry_after="7", date=date))
    assert await post(http, f"{scripted.url}/a") == Answered(429, "7", b"slow down", date)


async def test_the_address_is_sent_as_it_was_made(http: AiohttpClient, scripted: Scripted) -> None:
    scripted.expect(status(200))
    await post(http, f"{scripted.url}/ext_a%2Fb%3F%C3%A5%25%20%3A")
    assert scripted.got[0].path == "/ext_a%2Fb%3F%C3%A5%25%20%3A"


async def test_a_redirect_is_an_answer_and_is_not_followed(
    http: AiohttpClient, scripted: Scripted
) -> None:
    scripted.expect(status(307, location=f"{scripted.url}/elsewhere"))
    answer = await post(http, f"{scripted.url}/a")
    assert isinstance(answer, Answered)
    assert answer.status == 307


async def test_cookies_are_not_kept(http: AiohttpClient, scripted: Scripted) -> None:
    scripted.expect(status(200, set_cookie="a=b"), status(200))
    await post(http, scripted.url)
    await post(http, scripted.url)
    assert "cookie" not in scripted.got[1].headers


@pytest.mark.parametrize("then", [silence, hang_up])
@pytest.mark.parametrize("code", [200, 500])
async def test_a_status_counts_though_the_body_does_not_end(
    http: AiohttpClient, scripted: Scripted, code: int, then: Answer
) -> None:
    scripted.expect(unfinished(code, b"so far", then=then))
    answer = await post(http, scripted.url, 1.0)
    assert isinstance(answer, Answered)
    assert (answer.status, answer.retry_after, answer.body) == (code, None, b"so far")


async def test_a_dripping_answer_takes_no_longer_than_the_time_out(
    http: AiohttpClient, scripted: Scripted
) -> None:
    scripted.expect(dripping(200))
    async with asyncio.timeout(3):
        answer = await post(http, scripted.url, 1.0)
    assert isinstance(answer, Answered)
    assert answer.status == 200


async def test_of_an_endless_answer_the_start_is_read_and_the_connection_closed(
    http: AiohttpClient, scripted: Scripted
) -> None:
    ended = asyncio.Event()
    scripted.expect(endless(200, ended))
    async with asyncio.timeout(5):
        answer = await post(http, scripted.url, 20.0)
        await ended.wait()
    assert isinstance(answer, Answered)
    assert len(answer.body) == ANSWER_BYTES


@pytest.mark.parametrize("failure", [silence, hang_up, no_http])
async def test_without_a_status_a_request_is_in_doubt(
    http: AiohttpClient, scripted: Scripted, failure: Answer
) -> None:
    scripted.expect(failure)
    answer = await post(http, scripted.url, 0.5)
    assert isinstance(answer, Unanswered)
    assert answer.reason is Reason.NO_ANSWER


async def test_a_second_request_on_a_connection_that_then_breaks_is_in_doubt_and_not_repeated(
    http: AiohttpClient, scripted: Scripted
) -> None:
    scripted.expect(status(200), hang_up)
    await post(http, scripted.url)
    answer = await post(http, scripted.url)
    assert isinstance(answer, Unanswered)
    assert answer.reason is Reason.NO_ANSWER
    assert len(scripted.got) == 2


async def unreachable(http: AiohttpClient, url: str, seconds: float = 5.0) -> str:
    answer = await post(http, url, seconds)
    assert isinstance(answer, Unanswered)
    assert answer.reason is Reason.UNREACHABLE
    assert "s3cret" not in answer.detail
    return answer.detail


async def test_a_refused_connection_was_never_sent(http: AiohttpClient) -> None:
    assert "no connection to 127.0.0.1" in await unreachable(
        http, f"http://127.0.0.1:{unused_port()}/"
    )


async def test_an_unknown_host_name_was_never_sent(http: AiohttpClient) -> None:
    detail = await unreachable(http, "http://does-not-exist.invalid/")
    assert detail == "the host name does-not-exist.invalid was not found"


@pytest.mark.parametrize(
    "url", ["http://", "nonsense", f"http://{'a' * 70}.invalid/", "http://h:x"]
)
async def test_an_address_that_is_none_was_never_sent(http: AiohttpClient, url: str) -> None:
    await unreachable(http, url)


async def test_a_server_without_tls_was_never_sent_the_request(
    http: AiohttpClient, scripted: Scripted
) -> None:
    await unreachable(http, scripted.url.replace("http://", "https://"))


async def test_a_certificate_that_nobody_vouches_for_is_not_accepted(
    http: AiohttpClient, self_signed: TestServer
) -> None:
    detail = await unreachable(http, str(self_signed.make_url("/")))
    assert detail == "the certificate of 127.0.0.1 was not accepted"


async def test_a_connection_that_does_not_come_about_was_never_sent(http: AiohttpClient) -> None:
    """A full backlog: the kernel no longer completes the handshake."""
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for taken in (first, second):
            taken.setblocking(False)  # noqa: FBT003 - the socket module's own
            taken.connect_ex(full.getsockname())
        detail = await unreachable(http, f"http://127.0.0.1:{full.getsockname()[1]}/", 0.3)
    assert detail == "no connection within 0.3 s"


async def test_a_request_that_found_no_free_connection_was_never_sent(scripted: Scripted) -> None:
    http = AiohttpClient(connections=1)
    await http.start()
    scripted.expect(silence)
    first = asyncio.create_task(post(http, scripted.url, 1.0))
    await scripted.arrived.wait()
    assert await unreachable(http, scripted.url, 0.2) == "no connection within 0.2 s"
    answer = await first
    assert isinstance(answer, Unanswered)
    assert answer.detail == "no answer within 1 s"
    await http.stop()
