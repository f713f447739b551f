"""What reaches no handler: answered, and never written to the log."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from gateway.http.runner import QuietRunner


class Side:
    """A side application, and what became of the request that it reads the body of."""

    def __init__(self) -> None:
        self.reading = asyncio.Event()
        self.ended = asyncio.Event()
        self.port = 0

    async def read(self, request: web.Request) -> web.Response:
        self.reading.set()
        try:
            return web.Response(body=await request.read())
        finally:
            self.ended.set()

    async def fail(self, _: web.Request) -> web.Response:
        raise ConnectionRefusedError


@pytest.fixture
async def side() -> AsyncIterator[Side]:
    side = Side()
    app = web.Application()
    app.router.add_post("/", side.read)
    app.router.add_get("/fails", side.fail)
    runner = QuietRunner(app, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    side.port = runner.addresses[0][1]
    yield side
    await runner.cleanup()


async def answer(side: Side, sent: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", side.port)
    writer.write(sent)
    async with asyncio.timeout(10):
        got = await reader.read()
    writer.close()
    return got


@pytest.mark.parametrize(
    "sent", [b"GET / HTTP/1.1\r\nX: " + b"a" * 10_000 + b"\r\n\r\n", b"\x16\x03\x01\x02\r\n\r\n"]
)
async def test_what_is_no_http_gets_an_answer_and_no_line_in_the_log(
    side: Side, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    got = await answer(side, sent)
    assert got.split(b" ")[1] == b"400"
    assert got.endswith(b"This is no proper HTTP request.\n")
    assert not caplog.records


async def test_a_client_that_goes_away_in_its_body_is_no_error(
    side: Side, caplog: pytest.LogCaptureFixture
) -> None:
    _, writer = await asyncio.open_connection("127.0.0.1", side.port)
    writer.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
    await side.reading.wait()
    writer.close()
    await side.ended.wait()
    assert (await answer(side, b"no http\r\n\r\n")).split(b" ")[1] == b"400"
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]


@pytest.mark.logs_errors("Error handling request")
async def test_a_failure_of_our_own_is_told(side: Side) -> None:
    got = await answer(side, b"GET /fails HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert got.split(b" ")[1] == b"500"
