"""The one table from what can happen to a request to its status and body, in plain words.

A body always says what to do next. 204 has none: a body that nobody reads may hold a share of
Chromium's keepalive quota (browser.md 3a).
"""

from enum import StrEnum
from typing import Any, NamedTuple

import orjson
from aiohttp import web

from gateway.ingest import Problem, Refused, Result, Taken
from gateway.ports import Hook


class Trouble(StrEnum):
    """What goes wrong in HTTP itself, before ingest is asked."""

    BAD_REQUEST = "bad_request"
    NOT_FOUND = "not_found"
    NO_COLLECTOR = "no_collector"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    BODY_STALLED = "body_stalled"
    TOO_LARGE = "too_large"
    UNSUPPORTED_TYPE = "unsupported_type"
    UNSUPPORTED_ENCODING = "unsupported_encoding"
    HEADERS_TOO_LARGE = "headers_too_large"
    RATE_LIMITED = "rate_limited"
    BUSY = "busy"
    WRONG_SIGNATURE = "wrong_signature"
    STALE_SIGNATURE = "stale_signature"
    FAILED = "failed"


class Answer(NamedTuple):
    """A status, what to do next, and how long to wait before trying again."""

    status: int
    message: str
    retry_after_seconds: int | None = None


ANSWERS: dict[Problem | Trouble, Answer] = {
    Problem.NOT_A_REQUEST: Answer(400, "Send a request as /openapi.json describes it."),
    Problem.UNKNOWN_KEY: Answer(
        401,
        "No site has this key. Put the site's browser key into the body's key, or a server key"
        " into the header Authorization: Bearer.",
    ),
    Problem.ORIGIN_NOT_ALLOWED: Answer(
        403,
        "This site's browser key may not be used from this origin. Add the page's origin to the"
        " site's origins, or use a server key from your back end.",
    ),
    Problem.TOO_MANY_EVENTS: Answer(
        413, "A request may have 500 events; send the rest in another."
    ),
    Problem.UNAVAILABLE: Answer(
        503, "The events could not be stored just now; send the same request again.", 5
    ),
    Trouble.BAD_REQUEST: Answer(400, "This is not a proper HTTP request; see /openapi.json."),
    Trouble.NOT_FOUND: Answer(404, "There is nothing here; /openapi.json lists what there is."),
    Trouble.NO_COLLECTOR: Answer(
        404, "This gateway has no such script; without the hash its name is the present one's."
    ),
    Trouble.METHOD_NOT_ALLOWED: Answer(405, "This address takes another method: see Allow."),
    Trouble.BODY_STALLED: Answer(
        408, "The body did not arrive in time; send the same request again."
    ),
    Trouble.TOO_LARGE: Answer(
        413, "A body may have 1 MiB, also after inflation; send the events in several requests."
    ),
    Trouble.UNSUPPORTED_TYPE: Answer(
        415, "Send the body as text/plain (which needs no preflight) or application/json."
    ),
    Trouble.UNSUPPORTED_ENCODING: Answer(
        415, "Send the body as it is, or with Content-Encoding gzip or deflate."
    ),
    Trouble.HEADERS_TOO_LARGE: Answer(
        431,
        "The address or a header is longer than 8 KiB, or there are more than 128 headers; send"
        " less, such as fewer cookies.",
    ),
    Trouble.RATE_LIMITED: Answer(429, "Too many requests from this address; wait, then go on.", 1),
    Trouble.BUSY: Answer(503, "Too many requests at once; send the same request again.", 1),
    Trouble.WRONG_SIGNATURE: Answer(
        401,
        "This is not signed with any of the source's webhook_secrets. Put the webhook's secret"
        " there, whole, with its prefix.",
    ),
    Trouble.STALE_SIGNATURE: Answer(
        401,
        "This was signed too long ago, or this clock is wrong; see webhook_age_seconds.",
    ),
    Trouble.FAILED: Answer(
        500, "The gateway failed, which is its own fault; send the same request again later."
    ),
}


class DeclinedError(Exception):
    """The request is answered with an error of the table; `detail` says more than the table."""

    def __init__(self, trouble: Trouble, detail: str = "") -> None:
        super().__init__(trouble)
        self.trouble = trouble
        self.detail = detail


def error_answer(problem: Problem | Trouble, detail: str = "") -> web.Response:
    """Return the table's answer."""
    answer = ANSWERS[problem]
    body = {"error": str(problem), "message": detail or answer.message}
    response = _json(answer.status, body)
    if answer.retry_after_seconds is not None:
        response.headers["Retry-After"] = str(answer.retry_after_seconds)
    return response


def hook_answer(hook: Hook) -> web.Response:
    """Answer a webhook: exactly 200 for all that need not be sent again (postgrid.md, 4)."""
    trouble = _HOOK_TROUBLES.get(hook)
    if trouble is None:
        return _json(200, {"outcome": hook})
    return error_answer(trouble)


_HOOK_TROUBLES: dict[Hook, Problem | Trouble] = {
    Hook.WRONG_SIGNATURE: Trouble.WRONG_SIGNATURE,
    Hook.STALE: Trouble.STALE_SIGNATURE,
    Hook.UNAVAILABLE: Problem.UNAVAILABLE,
}


def events_answer(came: Taken | Refused) -> web.Response:
    """Answer `POST /v1/events`."""
    if isinstance(came, Refused):
        told = came.problem is Problem.NOT_A_REQUEST
        return error_answer(came.problem, came.detail if told else "")
    rejected = sum(each.refusal is not None for each in came.results)
    if not rejected and not came.server:
        return web.Response(status=204)
    status = 422 if rejected == len(came.results) else 200
    return _json(status, {"results": [_result(each) for each in came.results]})


def _result(result: Result) -> dict[str, Any]:
    body: dict[str, Any] = {"index": result.index, "outcome": result.outcome}
    if result.id is not None:
        body["id"] = result.id
    if result.refusal is not None:
        body["reason"] = result.refusal.reason
        body["message"] = result.refusal.message
        if result.refusal.field is not None:
            body["field"] = result.refusal.field
    return body


def _json(status: int, body: object) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")
