"""Runs an application so that what never reaches it is answered too, and quietly.

Anybody can send what is no proper HTTP, or go away in the middle of a request: neither is an
error of this program, so neither writes more than an answer.
"""

from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from typing import Any, ClassVar

from aiohttp import web

Route = Callable[[Any], Awaitable[web.StreamResponse]]


class QuietHandler(web.RequestHandler):
    """One connection."""

    __slots__ = ()
    options: ClassVar[Mapping[str, Any]] = {}
    """What `web.RequestHandler` takes."""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Answer a request that the parser refused, and end the connection."""
        is_ours = status >= HTTPStatus.INTERNAL_SERVER_ERROR
        is_gone = isinstance(exc, ConnectionError) and self.transport is None
        if is_ours and not is_gone:
            return super().handle_error(request, status, exc, message)
        response = self.refuse(exc)
        response.force_close()
        return response

    def refuse(self, _: BaseException | None) -> web.Response:
        """Return the answer to what is no proper HTTP."""
        return web.Response(status=HTTPStatus.BAD_REQUEST, text="This is no proper HTTP request.\n")


class _QuietServer(web.Server):
    def __init__(self, made: web.Server, route: Route, handler: type[QuietHandler]) -> None:
        super().__init__(route, request_factory=made.request_factory)
        self._handler = handler

    def __call__(self) -> web.RequestHandler:
        return self._handler(self, loop=self._loop, **self._handler.options)


class QuietRunner(web.AppRunner):
    """Serves an application with connections of the class `handler`."""

    handler: type[QuietHandler] = QuietHandler

    def route(self, route: Route) -> Route:
        """Return what answers every request: the application, if nothing comes before it."""
        return route

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _QuietServer(made, self.route(made.request_handler), self.handler)
