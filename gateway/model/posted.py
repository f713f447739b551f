"""A request's body, before its events are judged."""

from typing import Any, NamedTuple

import orjson

from gateway.model.instant import parse_microseconds

MOST_EVENTS = 500
_MEMBERS = {"key", "sentAt", "context", "events"}


class WrongShapeError(ValueError):
    """Not JSON, or not a request. The message says what to do."""


class TooManyError(ValueError):
    """More than MOST_EVENTS events."""


class Posted(NamedTuple):
    """The parts of a body. The context and the events are as they came."""

    key: str | None
    sent_at: str | None
    sent_us: int | None
    """`sentAt` in microseconds since the epoch."""
    context: dict[str, Any]
    events: list[Any]


def read(body: bytes) -> Posted:
    """Read a body. Raises WrongShapeError, TooManyError."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise WrongShapeError(f"The body is not JSON in UTF-8: {error}.") from None
    if not isinstance(value, dict):
        raise WrongShapeError("The body must be a JSON object with key, sentAt, context, events.")
    unknown = sorted(value.keys() - _MEMBERS)
    if unknown:
        raise WrongShapeError(
            f"{unknown[0][:100]} is not a member of a request; it has key, sentAt, context, events."
        )
    sent_at = value.get("sentAt")
    return Posted(
        _key(value.get("key")),
        sent_at,
        _instant(sent_at),
        _context(value.get("context")),
        _events(value.get("events")),
    )


def _key(key: object) -> str | None:
    if key is not None and not isinstance(key, str):
        raise WrongShapeError("key must be a string: the site's key.")
    return key


def _instant(sent_at: object) -> int | None:
    if sent_at is None:
        return None
    try:
        if isinstance(sent_at, str):
            return parse_microseconds(sent_at)
    except ValueError:
        pass
    raise WrongShapeError(
        "sentAt must be the time of sending, ISO 8601 with a zone, such as 2026-11-21T10:15:00Z."
    )


def _context(context: object) -> dict[str, Any]:
    if context is None:
        return {}
    if not isinstance(context, dict):
        raise WrongShapeError("context must be an object; leave it out if there is none.")
    return context


def _events(events: object) -> list[Any]:
    if not isinstance(events, list) or not events:
        raise WrongShapeError("events must be an array with at least one event.")
    if len(events) > MOST_EVENTS:
        raise TooManyError
    return events
