"""What every stand-in has beside the real service's paths: its state, its faults, its page.

``/_sandbox/…`` and ``/`` are the sandbox's own; no fault strikes them and no limit counts them.
"""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from aiohttp import web
from aiohttp.typedefs import Middleware
from pydantic import ValidationError

from gateway.sandbox.faults import (
    FAULT,
    NO_ANSWER,
    ErrorForm,
    FaultBoard,
    FaultyService,
    Handler,
)

_LAST_DIGITS = 6
_WHERE_CHARACTERS = 200
_OWN_PATHS = ("/_sandbox/", "/go/")
_PAGES = {
    "/": ("index.html", "text/html"),
    "/_sandbox/sandbox.css": ("sandbox.css", "text/css"),
    "/_sandbox/sandbox.js": ("sandbox.js", "text/javascript"),
}
_PAGE_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class Held(Protocol):
    """What a stand-in holds: can be shown and forgotten."""

    def as_json(self, last: int | None) -> dict[str, Any]:
        """Show all of it; of lists, only the ``last`` so many items if a number is given."""
        ...

    def reset(self) -> None:
        """Forget everything."""
        ...


class Refused(Exception):  # noqa: N818 - it names an answer, not a mistake
    """Raised by a handler to answer with an error in its service's form."""

    def __init__(self, answer: web.Response) -> None:
        super().__init__(answer.status)
        self.answer = answer


class Control:
    """The sandbox's own side of one service."""

    def __init__(self, name: str, held: Held, error: ErrorForm, now_ms: Callable[[], int]) -> None:
        self.name = name
        self.held = held
        self.faults = FaultBoard()
        self.requests: Counter[tuple[str, str, int | None]] = Counter()
        """How many requests by method, path template and status; ``None``: no answer given."""
        self._error = error
        self._faulty = FaultyService(self.faults, error, now_ms)

    def attach(self, app: web.Application, static_folder: Path) -> None:
        """Add the sandbox's paths to an app, whose middlewares must hold ``middleware``."""
        folder = static_folder / "sandbox"
        for path, (name, content_type) in _PAGES.items():
            app.router.add_get(path, _page(folder / name, content_type))
        app.router.add_get("/favicon.ico", _nothing)
        app.router.add_get("/_sandbox/state", self._show)
        app.router.add_delete("/_sandbox/state", self._reset)
        app.router.add_get("/_sandbox/faults", self._show_faults)
        app.router.add_post("/_sandbox/faults", self._add_fault)
        app.router.add_delete("/_sandbox/faults", self._clear_faults)
        app.on_shutdown.append(self._let_go)
        app[CONTROL] = self

    @property
    def middleware(self) -> Middleware:
        """Counts requests, acts faults out, puts errors into the service's own form."""

        @web.middleware
        async def stand_in(request: web.Request, handler: Handler) -> web.StreamResponse:
            if request.path in _PAGES or request.path.startswith((*_OWN_PATHS, "/favicon")):
                return await handler(request)

            async def carry_out(request: web.Request) -> web.StreamResponse:
                try:
                    return await handler(request)
                except Refused as refusal:
                    return refusal.answer
                except web.HTTPException as refusal:
                    return self._error(refusal.status, refusal.reason)

            answer = await self._faulty.answer(request, carry_out)
            status = None if request.get(NO_ANSWER) else answer.status
            self.requests[request.method, _template(request), status] += 1
            return answer

        return stand_in

    def as_json(self, last: int | None = None) -> dict[str, Any]:
        """Show all: the service's name, requests, faults, and what is held."""
        return {
            "service": self.name,
            "requests": [
                {"method": method, "path": path, "status": status, "count": count}
                for (method, path, status), count in sorted(self.requests.items(), key=repr)
            ],
            "faults": self.faults.as_json(),
            **self.held.as_json(last),
        }

    async def _show(self, request: web.Request) -> web.Response:
        text = request.query.get("last", "")[:_LAST_DIGITS]
        last = int(text) if text.isascii() and text.isdecimal() else None
        return own_json(self.as_json(last))

    async def _reset(self, _request: web.Request) -> web.Response:
        self.held.reset()
        self.requests.clear()
        return web.Response(status=204)

    async def _show_faults(self, _request: web.Request) -> web.Response:
        return own_json({"faults": self.faults.as_json()})

    async def _add_fault(self, request: web.Request) -> web.Response:
        try:
            fault = FAULT.validate_json(await own_body(request))
        except ValidationError as error:
            return own_json({"problems": problems(error)}, status=422)
        self.faults.add(fault)
        return own_json({"faults": self.faults.as_json()}, status=201)

    async def _clear_faults(self, _request: web.Request) -> web.Response:
        self.faults.clear()
        return web.Response(status=204)

    async def _let_go(self, _app: web.Application) -> None:
        self.faults.clear()


CONTROL = web.AppKey("control", Control)
"""The sandbox's own side of a stand-in: its faults and its request counts."""


async def own_body(request: web.Request) -> bytes:
    """Read the body of a request to the sandbox's own paths.

    Raises 415 unless it is sent as JSON: another site's page cannot send that without a
    preflight, which no stand-in answers, so it cannot switch faults on either.
    """
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(text="Send Content-Type: application/json.")
    return await request.read()


def problems(error: ValidationError) -> list[dict[str, str]]:
    """Say what is wrong and where, without repeating the value that was sent."""
    return [
        {
            "where": ".".join(str(step) for step in issue["loc"])[:_WHERE_CHARACTERS],
            "problem": issue["msg"],
        }
        for issue in error.errors(include_url=False, include_input=False, include_context=False)
    ]


def own_json(value: Any, status: int = 200) -> web.Response:
    """Answer with JSON from one of the sandbox's own paths."""
    headers = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
    return web.json_response(value, status=status, headers=headers)


def _template(request: web.Request) -> str:
    """Return the route's path, so that what callers make up does not fill the memory."""
    resource = request.match_info.route.resource
    return "(unknown path)" if resource is None else resource.canonical


def _page(path: Path, content_type: str) -> Callable[[web.Request], Any]:
    headers = {**_PAGE_HEADERS, "Content-Type": f"{content_type}; charset=utf-8"}

    async def show(_request: web.Request) -> web.FileResponse:
        return web.FileResponse(path, headers=headers)

    return show


async def _nothing(_request: web.Request) -> web.Response:
    return web.Response(status=204)
