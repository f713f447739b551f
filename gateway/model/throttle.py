"""What part of its rate a destination is asked at: less once it says 429, then slowly more. Pure.

Times are of any rising clock, in seconds.
"""

from collections import deque

WINDOW_SECONDS = 60
"""Over which rate limits are usually counted; Dub's is (dub.md 2)."""
_BELOW = 0.95
"""Of what was taken in the last minute, so much is asked for afterwards."""
_LEAST = 0.5
"""One refusal cuts no deeper: it may come from a limit that is counted otherwise."""
_FLOOR = 0.05
"""Never less: a destination that refuses everything for a while must be found again soon."""
_RISE = 1.01
"""A minute: so that the limit is met again only after some thousand requests."""
_TOGETHER_SECONDS = 1.0
"""Refusals that come so soon after one are of requests that were on their way."""


class Throttle:
    """Of one destination in one process."""

    def __init__(self) -> None:
        self._share = 1.0
        self._at = 0.0
        self._deaf_until = 0.0
        self._taken: deque[tuple[int, int]] = deque()
        """Whole seconds, and how many requests were taken in each."""

    def share(self, now: float) -> float:
        """Return what part of the rate to use."""
        if self._share < 1.0:
            self._share = min(1.0, self._share * _RISE ** ((now - self._at) / 60))
        self._at = now
        return self._share

    def taken(self, now: float) -> None:
        """Note a request that was not refused for the rate."""
        second = int(now)
        self._forget(second)
        before = self._taken.pop()[1] if self._taken and self._taken[-1][0] == second else 0
        self._taken.append((second, before + 1))

    def refused(self, now: float, rate: float, held_until: float) -> None:
        """Note a 429 at `rate` requests a second; until `held_until` none are begun."""
        if now < self._deaf_until:
            return
        self._deaf_until = max(now + _TOGETHER_SECONDS, held_until)
        self._forget(int(now))
        could = sum(number for _, number in self._taken) / WINDOW_SECONDS
        cut = min(1.0, max(_LEAST, could / rate)) * _BELOW
        self._share = max(_FLOOR, self.share(now) * cut)

    def _forget(self, second: int) -> None:
        while self._taken and self._taken[0][0] <= second - WINDOW_SECONDS:
            self._taken.popleft()
