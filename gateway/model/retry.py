"""When to try again: what a status means, how long to wait. Pure."""

from datetime import UTC
from email.utils import parsedate_to_datetime

from gateway.model.attempt import Again, Answered, Unanswered
from gateway.model.instant import EPOCH
from gateway.model.outcome import Reason

FIRST_SECONDS = 1.0
LONGEST_SECONDS = 300.0
RETRY_AFTER_SECONDS = 900.0
"""The longest `Retry-After` that is obeyed; a longer one is cut to this."""

_EPOCH_MS = 1e11
_EPOCH_SECONDS = 1e9
"""A number this large is an instant, not a duration (dub.md 2: Dub sends epoch milliseconds)."""


def backoff_seconds(attempts: int, draw: float) -> float:
    """Wait before the next try: exponential with full jitter.

    `attempts` made so far (1 or more); `draw` in [0, 1). Never below a tenth of the ceiling, so
    that a lucky draw is no busy loop.
    """
    ceiling = min(LONGEST_SECONDS, FIRST_SECONDS * 2.0 ** min(attempts - 1, 30))
    return ceiling * max(0.1, draw)


def retry_after_seconds(header: str | None, now_ms: int, date: str | None = None) -> float | None:
    """Read `Retry-After`: seconds, an HTTP date, or an epoch in seconds or milliseconds.

    None when it is absent or makes no sense; never negative, at most RETRY_AFTER_SECONDS. An
    instant counts from the answer's own `Date` where there is one: our clock may be wrong.
    """
    if header is None:
        return None
    theirs_ms = _instant_ms(date) if date else None
    if theirs_ms is not None:
        now_ms = theirs_ms
    try:
        number = float(header)
    except ValueError:
        due_ms = _instant_ms(header)
        seconds = None if due_ms is None else (due_ms - now_ms) / 1000
    else:
        if number > _EPOCH_MS:
            seconds = (number - now_ms) / 1000
        elif number > _EPOCH_SECONDS:
            seconds = number - now_ms / 1000
        else:
            seconds = number
    if seconds is None or seconds != seconds:  # noqa: PLR0124 - not a number
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_SECONDS)


def _instant_ms(date: str) -> int | None:
    """Read an HTTP date; None where it is none."""
    try:
        moment = parsedate_to_datetime(date)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return round((moment - EPOCH).total_seconds() * 1000)


def transient(answer: Answered | Unanswered, now_ms: int) -> Again | None:
    """Say to try again where that is what an answer means, whatever the destination; else None.

    504 leaves open whether the request was carried out; any other error answer means not done.
    401 and 403 look like a wrong setting: events wait until it is mended.
    """
    if isinstance(answer, Unanswered):
        return Again(answer.reason, detail=answer.detail)
    after = retry_after_seconds(answer.retry_after, now_ms, answer.date)
    reason = _TRANSIENT.get(answer.status)
    if reason is Reason.UNAUTHORIZED:
        return Again(reason, after, f"HTTP {answer.status}: is the key right, and allowed this?")
    if reason is None and answer.status >= 500:  # noqa: PLR2004 - HTTP's server errors
        reason = Reason.UNAVAILABLE
    return Again(reason, after, f"HTTP {answer.status}") if reason else None


_TRANSIENT = {
    401: Reason.UNAUTHORIZED,
    403: Reason.UNAUTHORIZED,
    408: Reason.UNAVAILABLE,
    425: Reason.UNAVAILABLE,
    429: Reason.RATE_LIMITED,
    504: Reason.NO_ANSWER,
}
