"""What an attempt's verdict makes of an entry: its outcome, or another try and when. Pure."""

from gateway.deliver.lanes import Entry
from gateway.deliver.settings import DestinationSettings
from gateway.model.attempt import IN_DOUBT, NOT_ITS_FAULT, Again, Done, Tried, tried_after
from gateway.model.journal import Postponed, Settled
from gateway.model.outcome import Outcome, Reason
from gateway.model.retry import backoff_seconds


def learn(entry: Entry, again: Again, now_ms: int) -> None:
    """Note a failed try on the entry."""
    entry.last = again
    entry.item.tried = tried_after(entry.item.tried, again.reason)
    if entry.first_failed_ms is None and again.reason not in NOT_ITS_FAULT:
        entry.first_failed_ms = now_ms
    if entry.waits_since_ms is None and again.then is not None:
        entry.waits_since_ms = now_ms


def learn_end(entry: Entry, done: Done) -> None:
    """Note a request that ended the entry: who replays it must know what was tried before.

    A refusal may leave traces at the destination too (dub.md 2: a failed lead is noted).
    """
    if done.outcome is Outcome.DEAD and entry.item.tried is Tried.NEVER:
        entry.item.tried = Tried.FAILED


def after_failure(
    entry: Entry,
    again: Again,
    settings: DestinationSettings,
    now_ms: int,
    draw: float,
    *,
    alone: bool = True,
) -> Settled | Postponed:
    """Return what follows from a try that `learn` has noted; `draw` in [0, 1) is the jitter.

    `alone`: the destination does not fail on others too, which would be no fault of this one.
    """
    done = _end(entry, again, settings, now_ms)
    if done is None and alone and again.reason not in NOT_ITS_FAULT:
        done = _alone(entry, again, settings, now_ms)
    if done is not None:
        return settled(entry, done)
    if again.after_seconds is not None:
        wait = again.after_seconds
    else:
        wait = backoff_seconds(entry.attempts, draw)
    if again.reason in IN_DOUBT:
        wait = max(wait, entry.item.unanswered_wait_seconds)
    return Postponed(entry.offset, again.reason, now_ms + round(wait * 1000), again.detail)


def _end(entry: Entry, again: Again, settings: DestinationSettings, now_ms: int) -> Done | None:
    doubt = again.reason in IN_DOUBT and must_not_repeat(entry, settings)
    if doubt:
        return Done(Outcome.DEAD, Reason.UNKNOWN, again.detail)
    if entry.stale:
        return Done(Outcome.SUPERSEDED, Reason.NEWER_CART)
    return expired(entry) if is_expired(entry, settings, now_ms) else None


def _alone(entry: Entry, again: Again, settings: DestinationSettings, now_ms: int) -> Done | None:
    if again.within_seconds is not None and again.then is not None:
        over = _passed(entry.waits_since_ms, again.within_seconds, now_ms)
        return again.then if over else None
    if _passed(entry.alone_since_ms, settings.retry_alone_seconds, now_ms):
        return Done(Outcome.DEAD, Reason.FAILED_ALONE, again.detail)
    return None


def first_wait_seconds(entry: Entry) -> float:
    """Return how long to keep from what a predecessor left without the time of its next try."""
    cut_off = entry.attempts > 0 and entry.item.tried is Tried.IN_DOUBT
    return entry.item.unanswered_wait_seconds if cut_off else 0.0


def before_attempt(entry: Entry, settings: DestinationSettings, now_ms: int) -> Done | None:
    """Return the outcome of an entry that is not to be sent after all, else None."""
    if entry.item.tried is Tried.IN_DOUBT:
        detail = "the gateway stopped before the answer came"
        if must_not_repeat(entry, settings):
            return Done(Outcome.DEAD, Reason.UNKNOWN, detail)
        if settings.on_unknown == "bury" and _past_repeating(entry, now_ms):
            detail = "in doubt for longer than the destination can tell a repetition"
            return Done(Outcome.DEAD, Reason.UNKNOWN, detail)
    if is_expired(entry, settings, now_ms):
        return expired(entry)
    most = settings.max_age_seconds or entry.item.max_age_seconds
    if _passed(entry.envelope.corrected_ms, most, now_ms):
        return Done(Outcome.SKIPPED, Reason.TOO_OLD)
    return None


def must_not_repeat(entry: Entry, settings: DestinationSettings) -> bool:
    """Whether doubt ends the entry instead of another try (promise 2)."""
    return not entry.item.repeatable and settings.on_unknown == "bury"


def _past_repeating(entry: Entry, now_ms: int) -> bool:
    """Whether a request may lie too far back for the destination to know this one for its copy.

    The first failure is no later than the first doubt; where none was seen, for a crash, no
    request was made before the log took the event.
    """
    since_ms = entry.time_ms if entry.first_failed_ms is None else entry.first_failed_ms
    return _passed(since_ms, entry.item.repeatable_seconds, now_ms)


def is_expired(entry: Entry, settings: DestinationSettings, now_ms: int) -> bool:
    """Whether `retry_for_seconds` have passed since the log took it, tried or not (rule 5)."""
    return _passed(entry.time_ms, settings.retry_for_seconds, now_ms)


def expired(entry: Entry) -> Done:
    """Return the outcome of an entry whose time is over, with what last went wrong."""
    last = f"last try: {entry.last.reason} {entry.last.detail}" if entry.last else "never tried"
    return Done(Outcome.DEAD, Reason.EXPIRED, last)


def settled(entry: Entry, done: Done) -> Settled:
    """Return the entry's outcome as the outcome log has it."""
    return Settled(entry.offset, done.outcome, done.reason, done.detail)


def _passed(since_ms: int | None, seconds: float | None, now_ms: int) -> bool:
    return since_ms is not None and seconds is not None and now_ms - since_ms >= seconds * 1000
