"""A token bucket: so many requests a second, with a burst of one second's worth. Pure."""

_ROUNDING = 1e-9
"""Less than this of a token is not missing, but lost in adding up."""


class Bucket:
    """Times are of any rising clock, in seconds."""

    def __init__(self, rate_per_second: float, now: float) -> None:
        self.rate = rate_per_second
        self._at = now
        self._tokens = self._most()

    def _most(self) -> float:
        return max(1.0, self.rate)

    def wait_seconds(self, now: float) -> float:
        """Return how long until one may be taken."""
        self._tokens = min(self._most(), self._tokens + (now - self._at) * self.rate)
        self._at = now
        missing = 1.0 - self._tokens
        return missing / self.rate if missing > _ROUNDING else 0.0

    def take(self) -> None:
        """Take one; call after `wait_seconds` gave 0."""
        self._tokens -= 1.0
