"""Ports: taken, and served on when there is something to serve."""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiohttp import web

from gateway.http.listen import Address, address_of

_log = logging.getLogger("gateway")

_BACKLOG = 1024
"""Connections that wait to be accepted; as many as the system allows."""


class CannotListenError(Exception):
    """An address cannot be listened on; the text says which setting, and what to do."""


def bind(listen: str, setting: str) -> socket.socket:
    """Take an address, without listening yet. Raises CannotListenError.

    `setting` is where the address comes from, for the error: `http.listen`.
    """
    address = address_of(listen)
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        taken = socket.socket(family, kind, protocol)
    except OSError as error:
        raise CannotListenError(
            f"cannot listen on {address} ({setting}): {error.strerror}"
        ) from error
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(place)
        taken.setblocking(False)  # noqa: FBT003 - the method's own form
    except OSError as error:
        taken.close()
        raise CannotListenError(_words(error, address, setting)) from error
    return taken


def address(taken: socket.socket) -> Address:
    """Return where a socket is bound."""
    host, port = taken.getsockname()[:2]
    return Address(host, port)


def url(taken: socket.socket) -> str:
    """Return the address as a browser takes it."""
    return f"http://{address(taken)}"


def _words(error: OSError, wanted: Address, setting: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {wanted.port} on {wanted.host} is taken: set another {setting}, or end its user"
        )
    if error.errno in {errno.EACCES, errno.EPERM}:
        return f"port {wanted.port} needs more rights ({setting}): take one from 1024 on"
    return f"cannot listen on {wanted} ({setting}): {os.strerror(error.errno or 0)}"


_Next = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _InFlight:
    """Counts an application's requests, to let them end.

    aiohttp itself drops what still arrives of a body once a server is being ended.
    """

    def __init__(self, app: web.Application) -> None:
        self._count = 0
        self._ending = False
        self._none = asyncio.Event()
        app.middlewares.insert(0, self._counted)

    @web.middleware
    async def _counted(self, request: web.Request, handler: _Next) -> web.StreamResponse:
        self._count += 1
        self._none.clear()
        try:
            response = await handler(request)
            if self._ending:
                response.force_close()  # or the same connection goes on asking
            return response
        finally:
            self._count -= 1
            if not self._count:
                self._none.set()

    async def end(self, seconds: float) -> None:
        """Wait until none is left, or the time is over."""
        self._ending = True
        if self._count:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._none.wait(), seconds)


class Server:
    """An application, and where it is served: an address of the settings, or a socket taken.

    `grace_seconds` is how long requests in flight may take when it is stopped.
    """

    def __init__(
        self,
        name: str,
        runner: web.AppRunner,
        setting: str,
        where: str | socket.socket,
        grace_seconds: float = 0.0,
    ) -> None:
        self.name = name
        self._runner = runner
        self._setting = setting
        self._listen = where if isinstance(where, str) else str(address(where))
        self._socket = None if isinstance(where, str) else where
        self._site: web.SockSite | None = None
        self._in_flight = _InFlight(runner.app)
        self._grace_seconds = grace_seconds

    @property
    def is_serving(self) -> bool:
        """Whether it has been started, and not yet stopped."""
        return self._site is not None

    def take(self) -> socket.socket:
        """Take the address if it is not yet. Raises CannotListenError."""
        if self._socket is None:
            self._socket = bind(self._listen, self._setting)
        return self._socket

    async def start(self) -> None:
        """Serve. Raises CannotListenError."""
        taken = self.take()
        await self._runner.setup()
        self._site = web.SockSite(self._runner, taken, backlog=_BACKLOG)
        try:
            await self._site.start()
        except OSError as error:  # another program has begun to listen since it was taken
            words = _words(error, address(taken), self._setting)
            await self.stop()
            raise CannotListenError(words) from error
        _log.info("%s: %s", self.name, url(taken))

    async def stop(self) -> None:
        """Accept no more, let what is in flight end, close."""
        if self._site is not None:
            await self._site.stop()
            self._site = None
            await self._in_flight.end(self._grace_seconds)
            await self._runner.cleanup()
        if self._socket is not None:
            self._socket.close()
            self._socket = None
