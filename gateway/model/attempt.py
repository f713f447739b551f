"""What deliver and a destination say to each other about records and requests."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from gateway.model.outcome import Outcome, Reason


@dataclass(slots=True, frozen=True)
class Skip:
    """The destination is not asked: the event lacks what it needs, or nothing is to do."""

    reason: Reason


WAITS = frozenset({Reason.UNKNOWN_CUSTOMER})
"""Reasons to try again of an event that waits for another one (`Again.then`)."""

NOT_ITS_FAULT = frozenset({Reason.RATE_LIMITED, Reason.SPLIT})
"""Reasons that count neither as the event's first failure nor against its time alone."""


class Tried(StrEnum):
    """What is known of earlier requests for an item."""

    NEVER = "never"
    FAILED = "failed"  # answered with an error: not done
    IN_DOUBT = "in_doubt"  # perhaps done


IN_DOUBT = frozenset({Reason.NO_ANSWER})
"""Reasons to try again that leave open whether the request was carried out."""

UNTOUCHED = frozenset({Reason.UNREACHABLE, Reason.RATE_LIMITED, Reason.UNAUTHORIZED, Reason.SPLIT})
"""Reasons to try again that show the request was turned away before anything was begun."""


def tried_after(tried: Tried, reason: Reason) -> Tried:
    """Return what is known of an item's requests after one more ended with `reason`.

    Doubt stays: no later error takes back what an earlier request may have done.
    """
    if reason in IN_DOUBT or tried is Tried.IN_DOUBT:
        return Tried.IN_DOUBT
    return tried if reason in UNTOUCHED else Tried.FAILED


@dataclass(slots=True, weakref_slot=True)
class Item:
    """An envelope made ready for one destination."""

    kind: str
    """The request kind: items of one kind may share a request. A closed set."""
    key: str | None
    """One attempt at a time per key, in the log's order; None where order means nothing."""
    repeatable: bool
    """Whether the destination can tell a repetition, so that doubt may be met by sending again."""
    body: Any
    """What goes into the request, JSON-ready."""
    repeatable_seconds: float | None = None
    """For how long after a request the destination can tell its repetition; None: for good."""
    unanswered_wait_seconds: float = 0.0
    """In doubt it is sent again no sooner: the destination may still be at work on the first
    request, and does not know a repetition until it is done."""
    max_age_seconds: float | None = None
    """Skipped (`too_old`) when older, unless the destination's setting says otherwise."""
    tried: Tried = Tried.NEVER
    """Kept by deliver."""


@dataclass(slots=True, frozen=True)
class Request:
    """A request about to be made. What is written to the outcome log before it is."""

    endpoint: str
    """The path in short, from a closed set: a metric's label, and what people see."""
    body: bytes
    items: tuple[Item, ...]


@dataclass(slots=True, frozen=True)
class Done:
    """An item has its outcome."""

    outcome: Outcome
    reason: Reason | None = None
    detail: str = ""
    """In plain words, for people: the destination's own message, never a secret."""


@dataclass(slots=True, frozen=True)
class Again:
    """An item is to be sent again: after `after_seconds`, or by the backoff where that is None."""

    reason: Reason
    after_seconds: float | None = None
    detail: str = ""
    within_seconds: float | None = None
    """Give up this long after the first such answer, with `then`; None: the common budgets."""
    then: Done | None = None


Verdict = Done | Again

WHOLE = frozenset(
    {
        Reason.UNREACHABLE,
        Reason.NO_ANSWER,
        Reason.RATE_LIMITED,
        Reason.UNAVAILABLE,
        Reason.UNAUTHORIZED,
    }
)
"""Reasons that speak of the destination, not of the event: what the breaker counts."""


@dataclass(slots=True, frozen=True)
class Reply:
    """What came of a request: a verdict for each of its items, in their order."""

    verdicts: tuple[Verdict, ...]
    status: int | None = None
    """The HTTP status; None where there was no answer, or no HTTP."""
    answer: str = ""
    """The start of the answer's body, or what went wrong; without secrets."""


@dataclass(slots=True, frozen=True)
class Answered:
    """An HTTP answer, its body cut at a bound."""

    status: int
    retry_after: str | None
    body: bytes
    date: str | None = None
    """When it was given, by the other side's clock: the header `Date`."""


@dataclass(slots=True, frozen=True)
class Unanswered:
    """No HTTP answer. UNREACHABLE: certainly not sent; NO_ANSWER: perhaps carried out."""

    reason: Reason
    detail: str
