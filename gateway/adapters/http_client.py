"""Outgoing HTTP: shared aiohttp sessions, and every failure a value."""

import asyncio
import errno
import socket
from types import SimpleNamespace

import aiohttp
from aiohttp import AddrInfoType
from yarl import URL

from gateway.model.attempt import Answered, Unanswered
from gateway.model.outcome import Reason
from gateway.model.public_address import is_public

ANSWER_BYTES = 65_536
"""How much of an answer is read by default; of a longer one the rest is never received."""

KEEP_ALIVE_SECONDS = 4.0
"""Below what common servers allow an idle connection (Node: 5 s). A server that closes one just
when a request goes out leaves that request in doubt, and some must not be repeated."""

_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.ClientConnectorDNSError, "the host name {host} was not found"),
    (aiohttp.ClientConnectorCertificateError, "the certificate of {host} was not accepted"),
    (aiohttp.ClientSSLError, "no TLS connection to {host}"),
    (aiohttp.ClientConnectorError, "no connection to {host}: {why}"),
    (aiohttp.ServerDisconnectedError, "the connection was closed before an answer came"),
    (ConnectionError, "the connection broke before an answer came"),
    (TimeoutError, "{late}"),
    (aiohttp.ClientResponseError, "the answer is no HTTP"),
)
"""The first that fits, in our own words."""


class _Progress:
    """How far an exchange came before it ended, however it ended."""

    def __init__(self) -> None:
        self.connected = False
        self.status: int | None = None
        self.retry_after: str | None = None
        self.date: str | None = None
        self.body = bytearray()


class AiohttpClient:
    """The `HttpClient` of destinations and sources. Redirects are answers; no cookies, no proxy."""

    def __init__(
        self,
        connections: int = 100,
        *,
        answer_bytes: int = ANSWER_BYTES,
        public_only: bool = False,
    ) -> None:
        """`public_only`: connect to no private address, whatever a name stands for just then."""
        self._connections = connections
        self._answer_bytes = answer_bytes
        self._public_only = public_only
        self._session: aiohttp.ClientSession | None = None

    async def start(self) -> None:
        """Open the session; in the loop that will use it."""
        trace = aiohttp.TraceConfig()
        trace.on_connection_create_end.append(_connected)
        trace.on_connection_reuseconn.append(_connected)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=self._connections,
                keepalive_timeout=KEEP_ALIVE_SECONDS,
                socket_factory=_public_socket if self._public_only else None,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            trace_configs=[trace],
        )

    async def stop(self) -> None:
        """Close the session and its connections."""
        if self._session is not None:
            await self._session.close()

    async def exchange(
        self, method: str, url: str, headers: dict[str, str], body: bytes, timeout_seconds: float
    ) -> Answered | Unanswered:
        """Send, and read the answer; the time-out is for all of it.

        Once the status has come it counts, also when the rest of the answer does not. Before a
        connection stands nothing was sent; from then on the request may have been carried out.
        """
        progress = _Progress()
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._run(progress, method, URL(url, encoded=True), headers, body)
        except (aiohttp.ClientError, OSError, ValueError) as error:  # TimeoutError is an OSError
            if progress.status is None:
                return _unanswered(progress, error, timeout_seconds)
        if progress.status is None:  # cannot be: `_run` ends with a status or raises
            return Unanswered(Reason.NO_ANSWER, "no status came")
        body = bytes(progress.body[: self._answer_bytes])
        return Answered(progress.status, progress.retry_after, body, progress.date)

    async def _run(
        self, progress: _Progress, method: str, url: URL, headers: dict[str, str], body: bytes
    ) -> None:
        if self._session is None:
            raise RuntimeError("start() comes first")
        async with self._session.request(
            method,
            url,
            headers=headers,
            data=body or None,  # a GET has none, and says nothing of one
            skip_auto_headers=("Content-Type",),
            allow_redirects=False,
            trace_request_ctx=progress,
        ) as response:
            progress.retry_after = response.headers.get("Retry-After")
            progress.date = response.headers.get("Date")
            progress.status = response.status
            async for part in response.content.iter_any():
                progress.body += part
                if len(progress.body) >= self._answer_bytes:
                    response.close()
                    return


class HttpClients:
    """The two clients of a process; `connections` is the limit of each."""

    def __init__(self, connections: int) -> None:
        self.any_address = AiohttpClient(connections)
        self.public_only = AiohttpClient(connections, public_only=True)

    async def start(self) -> None:
        """Open both; in the loop that will use them."""
        await self.any_address.start()
        await self.public_only.start()

    async def stop(self) -> None:
        """Close both."""
        await self.any_address.stop()
        await self.public_only.stop()


def _public_socket(info: AddrInfoType) -> socket.socket:
    """Make the socket for one address that is about to be connected to, if that is public.

    Here, and not where names are looked up: what is judged is what is connected to, so that a name
    which stands for another address a moment later (DNS re-binding) gets nobody past it.
    """
    family, kind, protocol, _, where = info
    if not is_public(str(where[0])):
        raise OSError(errno.EACCES, "a private address, and allow_private_addresses is not set")
    return socket.socket(family, kind, protocol)


async def _connected(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    context.trace_request_ctx.connected = True


def _unanswered(progress: _Progress, error: Exception, timeout_seconds: float) -> Unanswered:
    if progress.connected:
        return Unanswered(Reason.NO_ANSWER, _said(error, f"no answer within {timeout_seconds:g} s"))
    return Unanswered(
        Reason.UNREACHABLE, _said(error, f"no connection within {timeout_seconds:g} s")
    )


def _said(error: Exception, late: str) -> str:
    """Say what went wrong in our own words: a library's may quote the URL, or hostile bytes."""
    for kind, words in _WORDS:
        if isinstance(error, kind):
            why = error.strerror if isinstance(error, OSError) else None
            return words.format(host=getattr(error, "host", "?"), why=why or "failed", late=late)
    return type(error).__name__
