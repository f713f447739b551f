"""The time by which budgets run: a wall clock that is set must not bury, hold back or hurry."""

from collections.abc import Callable

from gateway.ports import Clock

SLEW = 0.2
"""So much faster or slower it goes until it agrees with the wall clock again."""
FOLLOWED_MS = 6 * 3_600_000
"""A larger difference is followed at once: the machine has slept, or its clock was never set."""


class SteadyClock:
    """The `Clock` port, over the wall clock and one that only rises, in seconds."""

    def __init__(self, wall: Clock, rising: Callable[[], float]) -> None:
        self._wall = wall
        self._rising = rising
        self._at = rising()
        self._ms = float(wall.now_ms())

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""
        at = self._rising()
        elapsed_ms = (at - self._at) * 1000
        self._at = at
        self._ms += elapsed_ms
        off_ms = self._wall.now_ms() - self._ms
        most_ms = elapsed_ms * SLEW
        if abs(off_ms) > FOLLOWED_MS:
            self._ms += off_ms
        else:
            self._ms += min(max(off_ms, -most_ms), most_ms)
        return round(self._ms)
