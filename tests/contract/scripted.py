"""One HTTP server that plays a script: it answers as told, and notes every request.

A request that the script does not expect gets 599, and fails the test that the server belongs to.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Got:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class Scripted:
    """The server's script and its notes."""

    def __init__(self) -> None:
        self.url = ""
        self.got: list[Got] = []
        self.surprises: list[str] = []
        self.rest: deque[Answer] = deque()
        self.arrived = asyncio.Event()

    def expect(self, *answers: Answer) -> None:
        """Expect one more request for each of these, and answer it so."""
        self.rest.extend(answers)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        if not self.rest:
            self.surprises.append(f"{request.method} {request.raw_path}")
            return web.Response(status=599)
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.got.append(Got(request.method, request.raw_path, headers, body))
        self.arrived.set()
        answer = self.rest.popleft()
        with suppress(ConnectionError):
            return await answer(request)
        return web.Response()


def status(code: int, body: bytes | str = b"", **headers: str) -> Answer:
    """Answer with a status, a body and headers (`retry_after` for `Retry-After`)."""

    async def answer(_: web.Request) -> web.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        content = body if isinstance(body, bytes) else body.encode()
        return web.Response(status=code, body=content, headers=named)

    return answer


async def silence(_: web.Request) -> web.StreamResponse:
    """Never answer; the server gives up when the caller has gone."""
    await asyncio.Event().wait()
    return web.Response()


async def hang_up(request: web.Request) -> web.StreamResponse:
    """Reset the connection instead of answering."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def no_http(request: web.Request) -> web.StreamResponse:
    """Answer with something that is no HTTP."""
    if request.transport is not None:
        request.transport.write(b"SSH-2.0-OpenSSH_9.6\r\n\r\n")
    return await silence(request)


async def slow_head(request: web.Request) -> web.StreamResponse:
    """Send a byte of the first line every now and then, which never ends."""
    await _head(request, b"H", 0.01)
    return web.Response()


async def endless_head(request: web.Request) -> web.StreamResponse:
    """Send a header that never ends, as fast as it is taken."""
    await _head(request, b"HTTP/1.1 200 OK\r\nX-A: ", 0.0)
    await _head(request, b"a" * 65_536, 0.001)
    return web.Response()


async def _head(request: web.Request, part: bytes, pause_seconds: float) -> None:
    """Write parts of an answer's head: over and over, or without a pause once."""
    transport = request.transport
    while transport is not None and not transport.is_closing():
        if transport.get_write_buffer_size() < 1 << 20:
            transport.write(part)
        if not pause_seconds:
            return
        await asyncio.sleep(pause_seconds)


def unfinished(code: int, start: bytes, *, then: Answer) -> Answer:
    """Send the status and the start of a longer body, and then do as `then` does."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=code, headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(start)
        await then(request)
        return response

    return answer


def dripping(code: int) -> Answer:
    """Send a status and then a byte every now and then, without end."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=code)
        await response.prepare(request)
        while request.transport is not None and not request.transport.is_closing():
            await response.write(b" ")
            await asyncio.sleep(0.01)
        return response

    return answer


def endless(code: int, ended: asyncio.Event) -> Answer:
    """Send a status and then as much as is taken; set `ended` when the caller hangs up."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=code)
        await response.prepare(request)
        try:
            while request.transport is not None and not request.transport.is_closing():
                await response.write(b"x" * 65_536)
        finally:
            ended.set()
        return response

    return answer
