"""The console app: the debugger's page and its JSON API, of which the commands are clients.

It shows personal data, so it answers on loopback, to a browser that knows it by a loopback name
(a page elsewhere that had its own name point here gets nothing), or to who has the token.
"""

import asyncio
import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from gateway.http.console_view import (
    event_json,
    letter_json,
    paused_json,
    reading_json,
    result_json,
    summary_json,
    trace_json,
)
from gateway.http.listen import Listen, address_of
from gateway.ledger import Ledger
from gateway.model.instant import parse_ms
from gateway.model.life import (
    ID_CHARACTERS,
    LETTER_STATES,
    Filters,
    LetterFilters,
    Place,
    parse_place,
)
from gateway.model.outcome import Outcome
from gateway.ports import BufferFailedError, IndexFailedError, Page
from gateway.replay import MOST_LETTERS, Replay, Result

MOST_EVENTS = 500
MOST_WAIT_SECONDS = 25.0
MOST_TAILS = 64
"""Tails waiting at once; each is a request that is kept open."""
TOKEN_CHARACTERS = 16
_FILTER_CHARACTERS = 100
_STATES = {*(outcome.value for outcome in Outcome), "waiting"}
_FILES = {
    "/": ("index.html", "text/html"),
    "/console.css": ("console.css", "text/css"),
    "/console.js": ("console.js", "text/javascript"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
        " img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class ConsoleSettings(BaseModel):
    """The console port."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    listen: Listen = "127.0.0.1:8090"
    token: SecretStr | None = None
    """What a browser or a command must show; needed on any address but loopback."""
    index_bytes: Annotated[int, Field(ge=64 << 20)] = 512 << 20
    """What the index may take on disk; when it is full the oldest go, and are read in the logs."""
    index_path: Path | None = None
    """Its file; beside the embedded log, or in data/, if it is not set. It may be lost."""

    @model_validator(mode="after")
    def _guarded(self) -> "ConsoleSettings":
        if self.token is None and not address_of(self.listen).is_loopback:
            raise ValueError(
                f"the console shows personal data: on {self.listen} it needs a token"
                ' (token = "…"), or listen on 127.0.0.1'
            )
        if self.token is not None and len(self.token.get_secret_value()) < TOKEN_CHARACTERS:
            raise ValueError(f"the token is too short: at least {TOKEN_CHARACTERS} characters")
        return self


@dataclass(slots=True)
class _Tails:
    """The tails that wait now."""

    waiting: set[asyncio.Task[Page]] = field(default_factory=set)


_LEDGER = web.AppKey("ledger", Ledger)
_REPLAY = web.AppKey("replay", Replay)
_TAILS = web.AppKey("tails", _Tails)
_PAGES = web.AppKey("pages", dict[str, tuple[bytes, str]])
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def create_console(
    ledger: Ledger, replay: Replay, settings: ConsoleSettings, static_folder: Path
) -> web.Application:
    """Build the console app.

    `static_folder` holds `console/`, which is read at start: FileNotFoundError when it is missing.
    """
    app = web.Application(middlewares=[_guard(settings), _answer_errors])
    app[_LEDGER] = ledger
    app[_REPLAY] = replay
    app[_TAILS] = _Tails()
    app[_PAGES] = {}
    app.on_shutdown.append(_end_tails)
    app.on_startup.append(partial(_load, static_folder / "console"))
    for path in _FILES:
        app.router.add_get(path, _page)
    app.router.add_get("/api/events", _events)
    app.router.add_get("/api/tail", _tail)
    app.router.add_get("/api/trace", _trace)
    app.router.add_get("/api/dead-letters", _letters)
    app.router.add_get("/api/dead-letters/{id}", _letter)
    app.router.add_post("/api/dead-letters/replay", partial(_decide, Replay.replay))
    app.router.add_post("/api/dead-letters/drop", partial(_decide, Replay.drop))
    app.router.add_get("/api/summary", _summary)
    app.on_response_prepare.append(_add_headers)
    return app


async def _end_tails(app: web.Application) -> None:
    """Let nobody wait for news any more, so that the port closes at once."""
    for tail in list(app[_TAILS].waiting):
        tail.cancel()


async def _load(folder: Path, app: web.Application) -> None:
    for path, (name, kind) in _FILES.items():
        app[_PAGES][path] = (await asyncio.to_thread((folder / name).read_bytes), kind)


# Who may ask.


def _guard(settings: ConsoleSettings) -> Any:
    token = settings.token.get_secret_value().encode() if settings.token else None
    is_local = address_of(settings.listen).is_loopback

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if is_local and not _is_loopback_name(request.host):
            return _refusal(403, "open the console by 127.0.0.1 or localhost")
        if request.path.startswith("/api/"):
            if not _is_own_page(request):
                return _refusal(403, "another site's page may not read the console")
            if token and not _shows(request, token):
                return _refusal(401, "this console wants its token: Authorization: Bearer …")
        return await handler(request)

    return guard


def _is_own_page(request: web.Request) -> bool:
    """Whether a browser says that the question comes from here, or no browser asks."""
    origin = request.headers.get("Origin")
    if origin is not None and origin.partition("://")[2] != request.host:
        return False
    return request.headers.get("Sec-Fetch-Site", "same-origin") in {"same-origin", "none"}


def _is_loopback_name(host: str) -> bool:
    name = host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host
    name = name.strip("[]")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name.lower() == "localhost"


def _shows(request: web.Request, token: bytes) -> bool:
    scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
    same = hmac.compare_digest(shown.strip().encode("utf-8", "replace"), token)
    return scheme.lower() == "bearer" and same


async def _add_headers(_: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(_HEADERS)


# Answers.


@web.middleware
async def _answer_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except _WrongQuestionError as error:
        return _refusal(400, str(error))
    except (IndexFailedError, BufferFailedError) as error:
        return _refusal(503, str(error))
    except web.HTTPException as error:
        return _refusal(error.status, error.reason)


class _WrongQuestionError(Exception):
    """A parameter makes no sense; says which."""


def _refusal(status: int, message: str) -> web.Response:
    headers = {"WWW-Authenticate": "Bearer"} if status == web.HTTPUnauthorized.status_code else None
    body = orjson.dumps({"message": message})
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def _json(told: Any) -> web.Response:
    return web.Response(body=orjson.dumps(told), content_type="application/json")


async def _page(request: web.Request) -> web.Response:
    body, kind = request.app[_PAGES][request.path]
    return web.Response(body=body, content_type=kind, charset="utf-8")


async def _events(request: web.Request) -> web.Response:
    ledger = request.app[_LEDGER]
    page = await ledger.events(_filters(request), request.query.get("after"), _limit(request))
    heard_ms = await _heard(ledger)
    return _json(
        {
            "events": [event_json(known, heard_ms) for known in page.events],
            "cursor": page.cursor,
            "reading": reading_json(await ledger.reading()),
        }
    )


async def _tail(request: web.Request) -> web.Response:
    """Answer when there is news, or after `wait` seconds: the same request again is a live tail."""
    tails = request.app[_TAILS].waiting
    if len(tails) >= MOST_TAILS:
        raise IndexFailedError(f"{MOST_TAILS} tails are open already: close one")
    ledger = request.app[_LEDGER]
    wait_seconds = _number(request, "wait", 0, 0, MOST_WAIT_SECONDS)
    asked = (_filters(request), request.query.get("after"), _limit(request))
    tail = asyncio.create_task(ledger.tail(*asked, wait_seconds))
    tails.add(tail)
    try:
        await asyncio.wait({tail})
    finally:
        tails.discard(tail)
        tail.cancel()
    if tail.cancelled():
        raise IndexFailedError("the console is stopping")
    page = tail.result()
    heard_ms = await _heard(ledger)
    events = [event_json(known, heard_ms) for known in page.events]
    paused = paused_json((await ledger.summary()).destinations)
    return _json({"events": events, "cursor": page.cursor, "paused": paused})


async def _trace(request: web.Request) -> web.Response:
    value = request.query.get("id", "").strip()
    if not 0 < len(value) <= ID_CHARACTERS:
        raise _WrongQuestionError(f"id: give one, of at most {ID_CHARACTERS} characters")
    before = request.query.get("before")
    trace = await request.app[_LEDGER].trace(
        value,
        older=before is not None or request.query.get("older") == "1",
        before_ms=None if before is None else _instant(before, "before"),
    )
    return _json(trace_json(trace))


async def _letters(request: web.Request) -> web.Response:
    page = await request.app[_LEDGER].letters(
        _letter_filters(request), request.query.get("after"), _limit(request)
    )
    letters = [letter_json(letter) for letter in page.letters]
    return _json({"deadLetters": letters, "cursor": page.cursor})


async def _letter(request: web.Request) -> web.Response:
    place = parse_place(request.match_info["id"])
    if place is None:
        raise _WrongQuestionError("a dead letter's id is written partition-offset, as in 0-17")
    letter = await request.app[_LEDGER].letter(place)
    if letter is None:
        return _refusal(404, f"there is no dead letter {place}")
    return _json(letter_json(letter, whole=True))


async def _decide(
    decide: Callable[[Replay, Sequence[Place]], Awaitable[list[Result]]], request: web.Request
) -> web.Response:
    """Replay or drop the letters that the body names: `{"ids": ["0-17", …]}`."""
    # A page elsewhere can't send this type without asking first, and is given no leave.
    if request.content_type != "application/json":
        return _refusal(415, "send the ids as application/json")
    try:
        ids = orjson.loads(await request.read())["ids"]
        places = [parse_place(each) for each in ids]
    except (ValueError, KeyError, TypeError):
        places = [None]
    asked = [place for place in places if place is not None]
    if len(asked) != len(places) or not 0 < len(asked) <= MOST_LETTERS:
        raise _WrongQuestionError(f'send {{"ids": ["0-17", …]}}, 1 to {MOST_LETTERS} of them')
    results = await decide(request.app[_REPLAY], asked)
    return _json({"results": [result_json(each) for each in results]})


async def _summary(request: web.Request) -> web.Response:
    return _json(summary_json(await request.app[_LEDGER].summary()))


async def _heard(ledger: Ledger) -> dict[str, int]:
    standings = (await ledger.summary()).destinations
    return {each.destination: each.heard_ms for each in standings if each.heard_ms is not None}


# Questions.


def _filters(request: web.Request) -> Filters:
    outcome = _one_of(request, "outcome", sorted(_STATES))
    return Filters(**_texts(request, "site", "type", "destination"), outcome=outcome)


def _letter_filters(request: web.Request) -> LetterFilters:
    since, until = (request.query.get(name) or None for name in ("since", "until"))
    return LetterFilters(
        **_texts(request, "site", "type", "destination", "reason"),
        state=_one_of(request, "state", LETTER_STATES),
        since_ms=_instant(since, "since") if since else None,
        until_ms=_instant(until, "until") if until else None,
    )


def _texts(request: web.Request, *names: str) -> dict[str, Any]:
    asked = {name: request.query.get(name) or None for name in names}
    for name, value in asked.items():
        if value is not None and len(value) > _FILTER_CHARACTERS:
            raise _WrongQuestionError(f"{name}: too long")
    return asked


def _one_of(request: web.Request, name: str, values: Sequence[str]) -> str | None:
    value = request.query.get(name) or None
    if value is not None and value not in values:
        raise _WrongQuestionError(f"{name}: one of {', '.join(values)}")
    return value


def _limit(request: web.Request) -> int:
    return int(_number(request, "limit", 50, 1, MOST_EVENTS))


def _number(request: web.Request, name: str, default: float, least: float, most: float) -> float:
    text = request.query.get(name)
    if text is None:
        return default
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not least <= number <= most:
        raise _WrongQuestionError(f"{name}: a number from {least:g} to {most:g}")
    return number


def _instant(text: str, name: str) -> int:
    try:
        return parse_ms(text)
    except ValueError:
        raise _WrongQuestionError(
            f"{name}: a time with its zone, as in 2026-11-21T10:15:00Z"
        ) from None
