"""A token bucket: so many requests a second, and a burst after a rest. Pure."""

_ROUNDING = 1e-9
"""Less than this of a token is not missing, but lost in adding up."""


class Bucket:
    """Times are of any rising clock, in seconds."""

    def __init__(self, rate_per_second: float, now: float, burst_seconds: float = 1.0) -> None:
        """`burst_seconds`: the burst is what the rate gives in so long, and at least one."""
        self.rate = rate_per_second
        self._burst_seconds = burst_seconds
        self._at = now
        self._tokens = self._most()

    def _most(self) -> float:
        return max(1.0, self.rate * self._burst_seconds)

    def wait_seconds(self, now: float) -> float:
        """Return how long until one may be taken."""
        self._tokens = min(self._most(), self._tokens + (now - self._at) * self.rate)
        self._at = now
        missing = 1.0 - self._tokens
        return missing / self.rate if missing > _ROUNDING else 0.0

    def take(self) -> None:
        """Take one; call after `wait_seconds` gave 0."""
        self._tokens -= 1.0
