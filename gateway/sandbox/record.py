"""What every stand-in needs: its own clock, bounded lists, memories that expire, a rate limit."""

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

KEEP = 100_000
"""How many things of one sort a stand-in holds before it forgets the oldest."""

Item = TypeVar("Item")


def wall_clock_ms() -> int:
    """Tell the milliseconds since the epoch.

    A stand-in plays a system outside the gateway, and so has a clock of its own.
    """
    return time.time_ns() // 1_000_000


class Received(list[Item]):
    """A list of what arrived, in that order; ``total`` counts what was forgotten too."""

    def __init__(self, keep: int = KEEP) -> None:
        super().__init__()
        self.total = 0
        self._keep = keep

    def add(self, item: Item) -> None:
        """Add one, forgetting the oldest tenth when there are too many."""
        self.total += 1
        self.append(item)
        if len(self) > self._keep:
            del self[: max(1, self._keep // 10)]

    def reset(self) -> None:
        """Forget everything, the total too."""
        self.clear()
        self.total = 0


def forget_oldest(held: dict[str, Any], keep: int = KEEP) -> None:
    """Make room in a dictionary that has grown beyond its bound."""
    while len(held) > keep:
        del held[next(iter(held))]


class Expiring(Generic[Item]):
    """Values under a key that are forgotten after a time, as a cache with expiry does."""

    def __init__(self, lifetime_ms: int, now_ms: Callable[[], int], keep: int = KEEP) -> None:
        self._lifetime_ms = lifetime_ms
        self._now_ms = now_ms
        self._keep = keep
        self._held: dict[str, tuple[int, Item]] = {}

    def get(self, key: str) -> Item | None:
        """Return the value under the key unless its time is over."""
        entry = self._held.get(key)
        if entry is None or self._now_ms() >= entry[0]:
            return None
        return entry[1]

    def put(self, key: str, value: Item) -> None:
        """Hold a value for a whole lifetime from now on."""
        self._held.pop(key, None)
        self._held[key] = (self._now_ms() + self._lifetime_ms, value)
        forget_oldest(self._held, self._keep)

    def put_if_absent(self, key: str, value: Item) -> bool:
        """Hold the value and say yes, or leave the present one and say no."""
        if self.get(key) is not None:
            return False
        self.put(key, value)
        return True

    def clear(self) -> None:
        """Forget everything."""
        self._held.clear()


class RateLimit:
    """At most ``limit`` admissions in any stretch of ``window_ms``; ``None`` admits all.

    ``limit`` may be changed while the server runs. What is refused does not count.
    """

    def __init__(self, limit: int | None, window_ms: int, now_ms: Callable[[], int]) -> None:
        self.limit = limit
        self.window_ms = window_ms
        self._now_ms = now_ms
        self._admitted: deque[int] = deque()

    def admit(self) -> bool:
        """Say whether one more request is within the limit, and count it if so."""
        now_ms = self._now_ms()
        while self._admitted and self._admitted[0] <= now_ms - self.window_ms:
            self._admitted.popleft()
        if self.limit is None:
            return True
        if len(self._admitted) >= self.limit:
            return False
        self._admitted.append(now_ms)
        return True

    @property
    def remaining(self) -> int:
        """How many more the last judged stretch would have admitted."""
        return max(0, (self.limit or 0) - len(self._admitted))

    def reset(self) -> None:
        """Forget what was admitted."""
        self._admitted.clear()
