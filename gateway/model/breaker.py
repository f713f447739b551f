"""The breaker: what fails as a whole is left alone for a while. Pure."""

from collections.abc import Iterable

from gateway.model.retry import backoff_seconds

FAILURES = 5
"""Failed requests in a row that open it."""


class Breaker:
    """Closed, open until an instant, or trying one request. `now`: a rising clock, in seconds."""

    def __init__(self, events: int = 0) -> None:
        """`events`: how many different ones must have failed, lest one alone opens it."""
        self._needed = events
        self._events: set[int] = set()
        self._failures = 0
        self._open_until = 0.0
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether requests wait (also while a single one is being tried)."""
        return self._failures >= FAILURES and len(self._events) >= self._needed

    def wait_seconds(self, now: float) -> float | None:
        """Return how long until a request may begin; None: until the one being tried has ended."""
        if not self.is_open:
            return 0.0
        if self._probing:
            return None
        return max(0.0, self._open_until - now)

    def begin(self) -> None:
        """Note that a request begins."""
        self._probing = self.is_open

    def success(self) -> None:
        """Note an answer that shows it at work."""
        self._failures = 0
        self._events.clear()
        self._probing = False

    def failure(self, now: float, draw: float, events: Iterable[int] = ()) -> None:
        """Note a request that failed as a whole; `draw` in [0, 1) is the jitter."""
        self._failures += 1
        self._probing = False
        if len(self._events) < self._needed:
            self._events.update(events)
        if self.is_open:
            self._open_until = now + backoff_seconds(self._failures - FAILURES + 2, draw)

    def abandoned(self) -> None:
        """Note that a request ended without saying anything of it."""
        self._probing = False
