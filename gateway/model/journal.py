"""The entries of the `outcomes` log: what deliver did, readable by deliver, ledger and people.

One entry is one record, in the partition of the events that it is about; `offsets` are theirs.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from gateway.model.attempt import Tried
from gateway.model.outcome import Outcome, Reason

EXCERPT_BYTES = 2048
"""How much of a request and of an answer is kept (DESIGN: the first 2 KB)."""


@dataclass(slots=True, frozen=True)
class Attempt:
    """Written before a request is made. With no `Answer` after it, the request is in doubt."""

    destination: str
    offsets: tuple[int, ...]
    endpoint: str
    request: str
    """The start of the request's body."""
    time_ms: int


@dataclass(slots=True, frozen=True)
class Settled:
    """The outcome of one record; if two are written, the first in the log counts."""

    offset: int
    outcome: Outcome
    reason: Reason | None = None
    detail: str = ""


@dataclass(slots=True, frozen=True)
class Postponed:
    """A record to be attempted again, not before `next_ms`."""

    offset: int
    reason: Reason
    next_ms: int
    detail: str = ""


@dataclass(slots=True, frozen=True)
class Answer:
    """What came of records, by one attempt (its `endpoint`, `status`) or by judging alone."""

    destination: str
    time_ms: int
    settled: tuple[Settled, ...] = ()
    postponed: tuple[Postponed, ...] = ()
    endpoint: str | None = None
    """None where no request was made: duplicates, skipped, superseded, expired."""
    request_kind: str | None = None
    status: int | None = None
    """The answer's HTTP status, None without an answer."""
    answer: str = ""
    """The start of the answer's body, or what went wrong."""


@dataclass(slots=True, frozen=True)
class Open:
    """A record without an outcome, as a successor must know it."""

    offset: int
    attempts: int = 0
    tried: Tried = Tried.NEVER
    in_flight: bool = False
    """A request for it has begun and not ended: in doubt, when nothing later says how it ended."""
    first_failed_ms: int | None = None
    alone_since_ms: int | None = None
    waits_since_ms: int | None = None
    next_ms: int | None = None
    """Not to be attempted before; None where a new try may succeed at once."""
    limited: bool = False
    """Until then the destination asked for less of everything."""


@dataclass(slots=True, frozen=True)
class Snapshot:
    """All that a successor needs: what is below `next` and not in `open` has its outcome."""

    destination: str
    next: int
    time_ms: int
    open: tuple[Open, ...] = field(default=())


@dataclass(slots=True, frozen=True)
class Pause:
    """A request kind is paused as by a wrong setting, or goes on again."""

    destination: str
    request_kind: str
    on: bool
    time_ms: int
    endpoint: str
    detail: str = ""
    """The destination's answer, in short."""


Entry = Attempt | Answer | Snapshot | Pause

_KINDS: dict[type, Literal["attempt", "answer", "snapshot", "pause"]] = {
    Attempt: "attempt",
    Answer: "answer",
    Snapshot: "snapshot",
    Pause: "pause",
}


class UnreadableEntryError(ValueError):
    """The bytes are no entry of the outcome log."""


def encode(entry: Entry) -> bytes:
    """Write an entry as compact JSON."""
    plain: dict[str, Any] = orjson.loads(orjson.dumps(entry))
    return orjson.dumps({"kind": _KINDS[type(entry)], **plain})


def decode(value: bytes) -> Entry:
    """Read an entry. Raises UnreadableEntryError."""
    try:
        plain: dict[str, Any] = orjson.loads(value)
        kind = plain.pop("kind")
        if kind == "attempt":
            return Attempt(**{**plain, "offsets": tuple(plain["offsets"])})
        if kind == "snapshot":
            return Snapshot(**{**plain, "open": tuple(map(_open, plain["open"]))})
        if kind == "pause":
            return Pause(**plain)
        if kind == "answer":
            return _answer(plain)
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableEntryError(f"{type(error).__name__}: {error}") from error
    raise UnreadableEntryError(f"kind {kind!r}")


def _open(plain: dict[str, Any]) -> Open:
    return Open(**{**plain, "tried": Tried(plain["tried"])})


def _answer(plain: dict[str, Any]) -> Answer:
    settled = tuple(
        Settled(
            each["offset"],
            Outcome(each["outcome"]),
            Reason(each["reason"]) if each["reason"] else None,
            each["detail"],
        )
        for each in plain["settled"]
    )
    postponed = tuple(
        Postponed(each["offset"], Reason(each["reason"]), each["next_ms"], each["detail"])
        for each in plain["postponed"]
    )
    return Answer(**{**plain, "settled": settled, "postponed": postponed})


def excerpt(body: bytes) -> str:
    """Return the first EXCERPT_BYTES of a body as text, whatever the bytes are."""
    return body[:EXCERPT_BYTES].decode("utf-8", "replace")
