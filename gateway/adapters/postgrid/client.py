"""The client of PostGrid's print-mail API: typed, asynchronous, one attempt or several a call."""

import asyncio
import random
import secrets
from collections.abc import Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlencode

import orjson
from pydantic import ValidationError

from gateway.adapters.postgrid.answers import Order
from gateway.adapters.postgrid.calls import (
    Call,
    Events,
    Given,
    Got,
    Orders,
    Trackers,
    Visits,
    Webhooks,
)
from gateway.adapters.postgrid.errors import (
    InDoubtError,
    NoSuchThingError,
    PostGridError,
    TooManyRequestsError,
    UnavailableError,
    UnreachableError,
    UnreadableAnswerError,
    refusal,
)
from gateway.adapters.postgrid.kinds import kinds_to_try, path_of
from gateway.adapters.postgrid.params import OfKind, OrderFields, OrderOfId
from gateway.adapters.postgrid.settings import PostgridSettings
from gateway.model.answers import hide, json_object, succeeded
from gateway.model.attempt import Answered, Unanswered
from gateway.model.bucket import Bucket
from gateway.model.outcome import Reason
from gateway.model.retry import backoff_seconds, retry_after_seconds
from gateway.ports import Clock, HttpClient

ROOT = "/print-mail/v1"
ANSWER_BYTES = 32 << 20
"""What the HTTP client must let through: a page of 100 orders, their HTML and contacts included."""
PATIENCE_SECONDS = 60.0
"""How long a call waits between its tries, all together, unless it is told otherwise."""
_MESSAGE_CHARACTERS = 500

Waiting = Callable[[float, str], None]
"""Told before each wait for how long, and why."""


class PostGridClient:
    """PostGrid's API, by one key. Every call raises PostGridError, and nothing else.

    What is refused for now (429, 5xx) is tried again, after `Retry-After` where that is given,
    until `patience_seconds` are used up. What may have been carried out is repeated only where that
    does no harm; an order has an idempotency key for that. What cannot be reached is told at once.
    """

    def __init__(
        self,
        settings: PostgridSettings,
        http: HttpClient,
        clock: Clock,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        waiting: Waiting | None = None,
    ) -> None:
        self.trackers = Trackers(self._carry_out)
        self.visits = Visits(self._carry_out)
        self.orders = Orders(self._carry_out)
        self.webhooks = Webhooks(self._carry_out)
        self.events = Events(self._carry_out)
        self._settings = settings
        self._http = http
        self._clock = clock
        self._patience_seconds = patience_seconds
        self._waiting = waiting
        self._bucket: Bucket | None = None

    async def find_order(self, order_id: str) -> Order:
        """Return an order by its id alone: its kind is read off the id, or tried.

        Raises NoSuchThingError when no kind has it, and what else a call raises.
        """
        missing = _not_found("an order of a return envelope is not found by its own id alone")
        for number, kind in enumerate(kinds_to_try(order_id)):
            try:
                return await self.orders.get(OrderOfId(kind=kind, id=order_id))
            except ValidationError:
                raise _not_found("that is no id of PostGrid's") from None
            except NoSuchThingError as error:
                missing = missing if number else error
        raise missing

    async def _carry_out(self, call: Call[Given, Got], params: Given) -> Got:
        url, headers, body = self._request(call, params)
        tries = _Tries(self._patience_seconds)
        while True:
            await self._pace()
            answer = await self._http.exchange(
                call.method, url, headers, body, self._settings.timeout_seconds
            )
            answer = hide(answer, self._settings.api_key.get_secret_value())
            if isinstance(answer, Answered) and succeeded(answer.status):
                return _read(call, answer)
            error = self._error(answer)
            wait_seconds = tries.wait_seconds(error, repeatable=call.repeatable)
            if wait_seconds is None:
                raise error
            if self._waiting is not None:
                self._waiting(wait_seconds, str(error))
            await asyncio.sleep(wait_seconds)

    async def _pace(self) -> None:
        """Keep to the rate, all calls of this client together."""
        loop = asyncio.get_running_loop()
        if self._bucket is None:
            self._bucket = Bucket(self._settings.rate_per_second, loop.time())
        wait_seconds = self._bucket.wait_seconds(loop.time())
        self._bucket.take()  # before the wait, so that who comes next waits longer
        if wait_seconds:
            await asyncio.sleep(wait_seconds)

    def _request(self, call: Call[Given, Got], params: Given) -> tuple[str, dict[str, str], bytes]:
        values = params.wire()
        headers = {"x-api-key": self._settings.api_key.get_secret_value()}
        if isinstance(params, OrderFields):
            headers["idempotency-key"] = values.pop("idempotencyKey", None) or secrets.token_hex(16)
            values = {**values.pop("fields", {}), **values}
        path = call.path
        if isinstance(params, OfKind):
            path = path_of(path, values)
        if "{id}" in path:
            path = path.replace("{id}", quote(values.pop("id"), safe=""))
        url = f"{self._settings.base_url}{ROOT}{path}"
        if call.method == "GET":
            return url + (f"?{urlencode(values)}" if values else ""), headers, b""
        if call.method == "DELETE" or not values:
            return url, headers, b""
        headers["Content-Type"] = "application/json"
        return url, headers, orjson.dumps(values)

    def _error(self, answer: Answered | Unanswered) -> PostGridError:
        where = self._settings.base_url
        if isinstance(answer, Unanswered):
            if answer.reason is Reason.UNREACHABLE:
                return UnreachableError(f"{where} cannot be reached: {answer.detail}")
            return InDoubtError(f"{where} gave no answer ({answer.detail}): it may be done or not")
        if answer.status < HTTPStatus.BAD_REQUEST:
            return UnreadableAnswerError(f"{where} answers HTTP {answer.status}: is that PostGrid?")
        now_ms = self._clock.now_ms()
        after_seconds = retry_after_seconds(answer.retry_after, now_ms, answer.date)
        if answer.status == HTTPStatus.GATEWAY_TIMEOUT:
            return InDoubtError(f"{where} answers HTTP 504: it may be done or not")
        kind, message = _said(answer)
        return refusal(answer.status, kind, message, after_seconds)


def _not_found(message: str) -> NoSuchThingError:
    return NoSuchThingError(HTTPStatus.NOT_FOUND, "not_found_error", message)


class _Tries:
    """How often a call has been tried, and how long it may still wait."""

    def __init__(self, patience_seconds: float) -> None:
        self._left_seconds = patience_seconds
        self._count = 0

    def wait_seconds(self, error: PostGridError, *, repeatable: bool) -> float | None:
        """Return how long to wait before the next try; None if there is to be none."""
        self._count += 1
        told_seconds = None
        if isinstance(error, TooManyRequestsError | UnavailableError):
            told_seconds = error.after_seconds
        elif not (repeatable and isinstance(error, InDoubtError)):
            return None
        draw = random.random()  # noqa: S311 - jitter
        seconds = told_seconds or backoff_seconds(self._count, draw)
        if seconds > self._left_seconds:
            return None
        self._left_seconds -= seconds
        return seconds


def _read(call: Call[Given, Got], answer: Answered) -> Got:
    try:
        return call.answer.model_validate_json(answer.body)
    except ValidationError as error:
        issue = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in issue["loc"]) or "the whole"
        raise UnreadableAnswerError(
            f"PostGrid's answer to {call.method} {call.path} makes no sense at {where}:"
            f" {issue['msg']}"
        ) from None


def _said(answer: Answered) -> tuple[str, str]:
    """Return type and message of an error answer; what it lacks is empty, or says so."""
    found: Any = json_object(answer.body).get("error")
    error = found if isinstance(found, dict) else {}
    kind, message = error.get("type"), error.get("message")
    return (
        kind[:_MESSAGE_CHARACTERS] if isinstance(kind, str) else "",
        message[:_MESSAGE_CHARACTERS] if isinstance(message, str) else "no message",
    )
