"""What stands between browser and gateway: it can be cut, lose an answer, or give its own.

Browsers keep the gateway's cookies only where they are `Secure`, so shop and gateway are reached by
`https`, with a certificate made for this run.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path

import orjson
from aiohttp import ClientError, ClientSession, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from multidict import CIMultiDict, CIMultiDictProxy

EVENTS_PATH = "/v1/events"
_PER_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}

Forward = Callable[[], Awaitable[web.Response]]
Reaction = Callable[[web.Request, Forward], Awaitable[web.Response | None]]
"""Answers a request in its own way; None cuts the connection."""


async def passes(_request: web.Request, forward: Forward) -> web.Response | None:
    """Hand the request on, and the answer back."""
    return await forward()


async def cut(_request: web.Request, _forward: Forward) -> web.Response | None:
    """Let nothing through."""
    return None


def cuts(texts: set[str]) -> Reaction:
    """Return a reaction that lets nothing through that holds one of these texts."""

    async def reaction(request: web.Request, forward: Forward) -> web.Response | None:
        body = await request.text()
        return None if any(text in body for text in texts) else await forward()

    return reaction


async def loses_answer(_request: web.Request, forward: Forward) -> web.Response | None:
    """Hand the request on, but not the answer: whether it was carried out can't be known."""
    await forward()
    return None


def delays(seconds: float) -> Reaction:
    """Return a reaction that takes its time, as a far gateway does."""

    async def reaction(_request: web.Request, forward: Forward) -> web.Response | None:
        await asyncio.sleep(seconds)
        return await forward()

    return reaction


def frozen(thawed: asyncio.Event) -> Reaction:
    """Return a reaction that says nothing until the event is set, and then hangs up."""

    async def reaction(_request: web.Request, _forward: Forward) -> web.Response | None:
        await thawed.wait()
        return None

    return reaction


def declines(status: int, retry_after_seconds: int | None) -> Reaction:
    """Return a reaction that answers as the gateway does when it is busy."""

    async def reaction(request: web.Request, _forward: Forward) -> web.Response | None:
        headers = {
            "Access-Control-Allow-Origin": request.headers["Origin"],
            "Access-Control-Allow-Credentials": "true",
            "Access-Control-Expose-Headers": "Retry-After",
        }
        if retry_after_seconds is not None:
            headers["Retry-After"] = str(retry_after_seconds)
        return web.Response(status=status, headers=headers, text="later")

    return reaction


@dataclass
class Seen:
    """A request, and what the browser got for it."""

    method: str
    path: str
    body: bytes
    at: float
    """By the loop's clock, in seconds."""
    status: int | None = None
    """None: no answer (yet)."""
    answer: bytes = b""

    @property
    def ids(self) -> list[str]:
        """The ids of the events in it."""
        return [event["id"] for event in orjson.loads(self.body)["events"]]


@dataclass
class Relay:
    """Hands requests on to the gateway, until told otherwise."""

    port: int
    target: str
    """The gateway's address."""
    tls: ssl.SSLContext
    script: str | None = None
    """What the browser gets in place of the collector."""
    seen: list[Seen] = field(default_factory=list)
    in_flight: int = 0
    most_bytes: int = 0
    """The most that bodies in flight together ever had."""
    _always: Reaction = passes
    _next: deque[Reaction] = field(default_factory=deque)
    _bytes: int = 0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def posts(self) -> list[Seen]:
        """The requests that brought events."""
        return [each for each in self.seen if each.method == "POST"]

    def reset(self) -> None:
        """Forget what was seen and planned."""
        self.seen.clear()
        self._next.clear()
        self._always = passes
        self.script = None
        self.most_bytes = 0

    def next(self, *reactions: Reaction) -> None:
        """Say how the next requests with events are met, one each."""
        self._next.extend(reactions)

    @contextmanager
    def always(self, reaction: Reaction) -> Iterator[None]:
        """Meet all requests with events so for a while."""
        self._always = reaction
        try:
            yield
        finally:
            self._always = passes

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve for a while."""
        app = web.Application(client_max_size=2**22)
        async with ClientSession(auto_decompress=False) as http:

            async def handle(request: web.Request) -> web.StreamResponse:
                return await self._handle(request, http)

            app.router.add_route("*", "/{path:.*}", handle)
            async with served(app, self.port, self.tls):
                yield

    async def _handle(self, request: web.Request, http: ClientSession) -> web.StreamResponse:
        seen = Seen(
            request.method, request.path, await request.read(), asyncio.get_running_loop().time()
        )
        self.seen.append(seen)
        reaction: Reaction = passes
        if request.path == EVENTS_PATH:
            reaction = self._next.popleft() if self._next else self._always
        self._enter(len(seen.body))
        try:
            response = await reaction(request, lambda: self._forward(request, seen.body, http))
        except (ClientError, OSError):  # the gateway is away
            response = None
        finally:
            self._enter(-len(seen.body), -1)
        if response is None:
            if request.transport is not None:
                request.transport.abort()
            return web.Response(status=502)
        seen.status, seen.answer = response.status, response.body  # type: ignore[assignment]
        return response

    def _enter(self, size: int, count: int = 1) -> None:
        self.in_flight += count
        self._bytes += size
        self.most_bytes = max(self.most_bytes, self._bytes)

    async def _forward(
        self, request: web.Request, body: bytes, http: ClientSession
    ) -> web.Response:
        async with http.request(
            request.method, self.target + request.path_qs, data=body,
            headers=_without_hop(request.headers),
            allow_redirects=False,
        ) as answer:  # fmt: skip
            response = web.Response(status=answer.status, body=await answer.read())
            headers = _without_hop(answer.headers)
            response.headers.popall("Content-Type", None)  # the answer has its own, or none
            if request.path.startswith("/collector.") and self.script is not None:
                response.text = self.script
                del headers["Content-Encoding"]
            response.headers.extend(headers)
            return response


def _without_hop(headers: CIMultiDictProxy[str]) -> CIMultiDict[str]:
    return CIMultiDict(pair for pair in headers.items() if pair[0].lower() not in _PER_HOP)


@asynccontextmanager
async def served(app: web.Application, port: int, tls: ssl.SSLContext) -> AsyncIterator[None]:
    """Serve an application at 127.0.0.1 for a while."""
    runner = web.AppRunner(app, handler_cancellation=False, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls).start()
    try:
        yield
    finally:
        await runner.cleanup()


def certificate(folder: Path) -> ssl.SSLContext:
    """Make a certificate for 127.0.0.1 that nobody vouches for; the drivers are told to take it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(datetime(2020, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2100, 1, 1, tzinfo=UTC))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    path = folder / "shop.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + made.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context
