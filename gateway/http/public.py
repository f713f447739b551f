"""The public application: events in, the collector out."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import cache, partial
from http import HTTPStatus
from pathlib import Path
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import orjson
from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from gateway.http.addresses import RateLimit, client_address
from gateway.http.answers import (
    DeclinedError,
    Trouble,
    error_answer,
    events_answer,
    hook_answer,
)
from gateway.http.bodies import read_any_body, read_body
from gateway.http.collector import (
    SCRIPTS,
    Collector,
    collector_answer,
    hashed,
    read_collector,
)
from gateway.http.cookies import read_cookies, set_cookie
from gateway.http.openapi import document
from gateway.http.runner import QuietHandler, QuietRunner, Route
from gateway.http.settings import HttpSettings
from gateway.ingest import Ingest, Problem, Receipt, Refused, Taken
from gateway.metrics import HOOKS, REQUEST_SECONDS
from gateway.model.instant import format_ms
from gateway.ports import Clock, Source

_log = logging.getLogger(__name__)

PREFLIGHT_SECONDS = 86_400
HANDLER_ARGS: dict[str, Any] = {
    "auto_decompress": False,  # `read_body` inflates, within a bound
    "max_line_size": 8190,
    "max_field_size": 8190,
    "lingering_time": 2.0,
}
PIXEL = bytes.fromhex(
    "47494638396101000100800000000000ffffff21f90401000000002c00000000010001000002024401003b"
)
"""A transparent GIF of one pixel, 43 bytes."""
_EVENTS_PATH = "/v1/events"
_TOO_MANY_HEADERS = "Too many headers"
"""How aiohttp's parser puts it; the error has no type of its own."""


def create_public(
    ingest: Ingest,
    settings: HttpSettings,
    clock: Clock,
    collector: Path,
    sources: Mapping[str, Source] | None = None,
) -> web.Application:
    """Return the application. `collector` is the folder of the built script, read at start.

    `sources` are those that take webhooks. Run it by `PublicRunner`.
    """
    public = _Public(ingest, settings, clock, collector, sources or {})
    app = web.Application(middlewares=[public.answer], handler_args=HANDLER_ARGS)
    app[_POST_EVENTS] = public.post_events
    app.on_startup.append(public.start)
    app.add_routes(
        [
            web.post(_EVENTS_PATH, public.events),
            web.options(_EVENTS_PATH, public.preflight),
            web.get("/v1/pixel.gif", public.pixel, allow_head=False),
            web.get("/openapi.json", public.openapi),
            web.post("/v1/hooks/postgrid/{source}", public.hook),
            *(each for name in SCRIPTS for each in public.script_routes(name)),
        ]
    )
    return app


class _PublicHandler(QuietHandler):
    __slots__ = ()
    options = HANDLER_ARGS

    def refuse(self, error: BaseException | None) -> web.Response:
        """Answer in the table's words."""
        too_much = isinstance(error, LineTooLong) or _TOO_MANY_HEADERS in str(error)
        return error_answer(Trouble.HEADERS_TOO_LARGE if too_much else Trouble.BAD_REQUEST)


class PublicRunner(QuietRunner):
    """Runs the application so that what is no proper HTTP is answered in plain words too.

    What nearly every request is, a post of events, does not go by the application's router and
    its own middleware: they would be a fifth of its CPU time.
    """

    handler = _PublicHandler

    def route(self, route: Route) -> Route:
        """Return the short way for events, the application for the rest."""
        post_events: Route = self.app[_POST_EVENTS]
        for outer in reversed(self.app.middlewares[:-1]):  # the last one is `answer`
            post_events = partial(outer, handler=post_events)

        async def answer(request: Any) -> web.StreamResponse:
            is_post = request.raw_path == _EVENTS_PATH and request.method == "POST"
            if is_post and "Expect" not in request.headers:
                return await post_events(request)
            try:
                return await route(request)
            except web.HTTPException:  # said before any middleware: it knows no such `Expect`
                return error_answer(Trouble.BAD_REQUEST)

        return answer


class _Room:
    """Holds so many requests at once; one more is declined."""

    def __init__(self, most: int) -> None:
        self._free = most

    def __enter__(self) -> None:
        if self._free == 0:
            raise DeclinedError(Trouble.BUSY)
        self._free -= 1

    def __exit__(self, *_: object) -> None:
        self._free += 1


_seconds = cache(REQUEST_SECONDS.labels)  # a lookup there costs as much as observing
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_POST_EVENTS: web.AppKey[_Handler] = web.AppKey("post_events")


class _Public:
    """The handlers, and what they share."""

    def __init__(
        self,
        ingest: Ingest,
        settings: HttpSettings,
        clock: Clock,
        folder: Path,
        sources: Mapping[str, Source],
    ) -> None:
        self._ingest = ingest
        self._sources = sources
        self._settings = settings
        self._clock = clock
        self._folder = folder
        self._scripts: dict[str, Collector | None] = {}
        self._document = document()
        self._room = _Room(settings.max_in_flight)
        rate = settings.requests_per_second
        self._limit = RateLimit(rate) if rate is not None else None

    async def start(self, _app: web.Application) -> None:
        for name in SCRIPTS:
            self._scripts[name] = await asyncio.to_thread(read_collector, self._folder, name)
        if None in self._scripts.values():
            _log.warning("no collector script in %s: build it first", self._folder)

    @web.middleware
    async def answer(self, request: web.Request, handler: _Handler) -> web.StreamResponse:
        """Turn every error into an answer of the table; let allowed pages read any answer."""
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "none"
        return await self._timed(request, handler, route)

    async def post_events(self, request: web.Request) -> web.StreamResponse:
        """Answer `POST /v1/events`, as the middleware would."""
        return await self._timed(request, self.events, _EVENTS_PATH)

    async def _timed(
        self, request: web.Request, handler: _Handler, route: str
    ) -> web.StreamResponse:
        began = perf_counter()  # a loop's own clock may tick in milliseconds
        response = await _answered(request, handler, route)
        if route == _EVENTS_PATH:
            self._share(request, response)
        _seconds(route, response.status).observe(perf_counter() - began)
        return response

    def _share(self, request: web.Request, response: web.StreamResponse) -> None:
        """Set the headers of CORS: only origins of a site are named."""
        headers = response.headers
        headers["Vary"] = "Origin"
        origin = request.headers.get("Origin")
        if origin in self._ingest.keys.origins:
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Allow-Credentials"] = "true"
            headers["Access-Control-Expose-Headers"] = "Retry-After"

    async def events(self, request: web.Request) -> web.StreamResponse:
        with self._admitted(request):
            body = await read_body(request, self._settings.body_seconds)
            receipt = self._receipt(request)
            came = await self._ingest.take(body, receipt)
        response = events_answer(came)
        if isinstance(came, Taken):
            _remember(response, came, receipt)
        return response

    async def hook(self, request: web.Request) -> web.StreamResponse:
        """Take in a source's webhook. One address sends them all: the rate per address is not its.

        It goes through the same ingest as posted events, and has the same room and limits.
        """
        name = request.match_info["source"]
        source = self._sources.get(name)
        if source is None:
            return error_answer(Trouble.NOT_FOUND)
        with self._room:
            body = await read_any_body(request, self._settings.body_seconds)
            came = await source.receive(body, request.headers)
        HOOKS.labels(name, came).inc()
        return hook_answer(came)

    async def preflight(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Origin") not in self._ingest.keys.origins:
            return error_answer(Problem.ORIGIN_NOT_ALLOWED)
        return web.Response(
            status=204,
            headers={
                "Access-Control-Allow-Methods": "POST",
                "Access-Control-Allow-Headers": "content-type, content-encoding",
                "Access-Control-Max-Age": str(PREFLIGHT_SECONDS),
            },
        )

    async def pixel(self, request: web.Request) -> web.StreamResponse:
        """Take in a page event from an image: its origin is the referrer's, else the url's."""
        query = request.query
        referrer = _referrer(request)
        address = query.get("url") or referrer
        now_ms = self._clock.now_ms()
        event = {
            "type": "page",
            "id": str(uuid4()),
            "time": format_ms(now_ms),
            "title": query.get("title"),
        }
        body = {
            "key": query.get("key"),
            "context": {"consent": "limited", "url": address},
            "events": [event],
        }
        origin = _origin(referrer or address)
        receipt = Receipt(
            now_ms,
            origin,
            prerender=_is_prerender(request),
            user_agent=request.headers.get("User-Agent", ""),
        )
        with self._admitted(request):
            came = await self._ingest.take(orjson.dumps(body), receipt)
        if isinstance(came, Refused):
            return error_answer(came.problem)
        return _pixel_answer(came)

    def script_routes(self, name: str) -> list[web.RouteDef]:
        """Return the routes of a script: by its plain name, and by the one with its hash."""

        async def script(request: web.Request) -> web.StreamResponse:
            return collector_answer(self._scripts[name], request, request.match_info.get("hash"))

        immutable = hashed(name, "{hash:[0-9A-Za-z_-]+}")
        return [web.get(f"/{name}", script), web.get(f"/{immutable}", script)]

    async def openapi(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(body=self._document, content_type="application/json")

    def _admitted(self, request: web.Request) -> _Room:
        """Return the room to answer in, or decline: one address has its rate, all have one room."""
        if self._limit is not None:
            address = client_address(
                request.remote,
                # Some proxies append a line of their own (HAProxy), which the last hop is then in.
                ",".join(request.headers.getall("X-Forwarded-For", ())),
                self._settings.trusted_proxies,
            )
            if not self._limit.allows(address, asyncio.get_running_loop().time()):
                raise DeclinedError(Trouble.RATE_LIMITED)
        return self._room

    def _receipt(self, request: web.Request) -> Receipt:
        headers = request.headers
        return Receipt(
            self._clock.now_ms(),
            headers.get("Origin"),
            _bearer(headers.get("Authorization")),
            headers.get("Sec-GPC") == "1",
            _is_prerender(request),
            headers.get("User-Agent", ""),
            *read_cookies(headers.get("Cookie")),
        )


async def _answered(request: web.Request, handler: _Handler, route: str) -> web.StreamResponse:
    try:
        return await handler(request)
    except DeclinedError as error:
        response = error_answer(error.trouble, error.detail)
        if not request.content.at_eof():
            response.force_close()  # the rest of the body is not worth waiting for
        return response
    except web.HTTPMethodNotAllowed as error:
        response = error_answer(Trouble.METHOD_NOT_ALLOWED)
        response.headers["Allow"] = error.headers["Allow"]
        return response
    except web.HTTPException as error:
        known = error.status == HTTPStatus.NOT_FOUND
        return error_answer(Trouble.NOT_FOUND if known else Trouble.BAD_REQUEST)
    except Exception:  # noqa: BLE001 - whatever it is, the client gets an answer it can use
        _log.exception("a request to %s failed", route)
        return error_answer(Trouble.FAILED)


def _pixel_answer(came: Taken) -> web.Response:
    """Answer with the image in any case: where the event was rejected, the status says so."""
    refusal = came.results[0].refusal
    headers = {"Cache-Control": "private, no-cache"}
    if refusal is not None:
        headers["Gateway-Rejection"] = refusal.reason
    status = HTTPStatus.OK if refusal is None else HTTPStatus.UNPROCESSABLE_ENTITY
    return web.Response(status=status, body=PIXEL, content_type="image/gif", headers=headers)


def _remember(response: web.StreamResponse, came: Taken, receipt: Receipt) -> None:
    for field, value in sorted(came.cookies.items(), reverse=True):
        known_ms = receipt.contact_since_ms if receipt.cookies.get(field) == value else None
        since_ms = receipt.received_ms if known_ms is None else known_ms
        response.headers.add("Set-Cookie", set_cookie(field, value, since_ms))


def _bearer(header: str | None) -> str | None:
    """Return the key; any other scheme is a key that no site has."""
    if header is None:
        return None
    scheme, _, key = header.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else header


def _referrer(request: web.Request) -> str | None:
    """Return the page's address; no browser sends other bytes than those of ASCII."""
    referrer = request.headers.get("Referer")
    return referrer if referrer is not None and referrer.isascii() else None


def _is_prerender(request: web.Request) -> bool:
    """Whether the browser says that nobody may ever see the page (browser.md 3a)."""
    return "pre" in request.headers.get("Sec-Purpose", "")


def _origin(address: str | None) -> str | None:
    try:
        parts = urlsplit(address or "")
    except ValueError:
        return None
    return f"{parts.scheme}://{parts.netloc}".lower() if parts.netloc else None
