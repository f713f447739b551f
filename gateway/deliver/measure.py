"""What deliver counts."""

from dataclasses import dataclass

from gateway import metrics
from gateway.model.attempt import Reply, Request
from gateway.model.dead import DeadLetter
from gateway.model.journal import Settled
from gateway.model.outcome import Outcome, Reason

_BURIED_FOR = (
    Reason.UNKNOWN,
    Reason.EXPIRED,
    Reason.FAILED_ALONE,
    Reason.REFUSED,
    Reason.UNKNOWN_CLICK,
    Reason.UNREADABLE,
    Reason.UNCONFIRMED,
)
"""Why events are given up on (`model/outcome.py`, "dead")."""


@dataclass(slots=True, frozen=True)
class Standing:
    """How far a destination is in one partition."""

    lag_events: int
    oldest_seconds: float
    breaker_open: bool
    paused: bool
    window_records: int
    window_seconds: float


_WINDOWS: dict[tuple[str, int], Standing] = {}
"""Of all destinations: the window's metrics are the process's."""


class Standings:
    """Sums of a destination's partitions owned by this process."""

    def __init__(self, destination: str, retention_seconds: float) -> None:
        self._destination = destination
        self._retention_seconds = retention_seconds
        self._partitions: dict[int, Standing] = {}
        # From 0 on: a counter that appears with its first event shows Prometheus no increase.
        metrics.MISSING_EVENTS.labels(destination)
        for reason in _BURIED_FOR:
            metrics.DEAD_LETTERS.labels(destination, reason)
        for each in Outcome:
            metrics.DELIVERIES.labels(destination, each)

    def put(self, partition: int, standing: Standing | None) -> None:
        """Note a partition's standing; None when it is no longer owned."""
        if standing is None:
            self._partitions.pop(partition, None)
            _WINDOWS.pop((self._destination, partition), None)
        else:
            self._partitions[partition] = standing
            _WINDOWS[self._destination, partition] = standing
        owned = self._partitions.values()
        oldest = max((each.oldest_seconds for each in owned), default=0.0)
        name = self._destination
        metrics.BUFFER_LAG_EVENTS.labels(name).set(sum(each.lag_events for each in owned))
        metrics.BUFFER_OLDEST_EVENT_AGE_SECONDS.labels(name).set(oldest)
        metrics.RETENTION_LEFT_SECONDS.labels(name).set(self._retention_seconds - oldest)
        metrics.BREAKER_OPEN.labels(name).set(any(each.breaker_open for each in owned))
        metrics.PAUSED.labels(name).set(any(each.paused for each in owned))
        windows = _WINDOWS.values()
        metrics.WINDOW_RECORDS.set(max((each.window_records for each in windows), default=0))
        metrics.WINDOW_SECONDS.set(max((each.window_seconds for each in windows), default=0.0))


def attempt(destination: str, request: Request, reply: Reply, seconds: float) -> None:
    """Count a request."""
    status = str(reply.status) if reply.status is not None else "none"
    metrics.DELIVERY_ATTEMPTS.labels(destination, request.endpoint, status).inc()
    metrics.ATTEMPT_SECONDS.labels(destination).observe(seconds)
    metrics.BATCH_EVENTS.labels(destination).observe(len(request.items))


def outcome(destination: str, settled: Settled, age_seconds: float | None) -> None:
    """Count an outcome; its age is known where the event waited here."""
    metrics.DELIVERIES.labels(destination, settled.outcome).inc()
    if age_seconds is not None:
        metrics.EVENT_AGE_SECONDS.labels(destination).observe(max(0.0, age_seconds))


def buried(letter: DeadLetter) -> None:
    """Count a dead letter."""
    metrics.DEAD_LETTERS.labels(letter.destination, letter.reason).inc()


def missing(destination: str, records: int) -> None:
    """Count records that were gone before they were delivered."""
    metrics.MISSING_EVENTS.labels(destination).inc(records)
