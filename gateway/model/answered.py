"""Ingest's own window: what this process has seen acknowledged, to answer retries at once.

It decides nothing: what it has forgotten goes into the log again, and is a duplicate there.
"""

from collections.abc import Iterable

MOST_KEYS = 200_000
"""About 20 MB."""


class Answered:
    """Keys of acknowledged events, bounded by count and by time."""

    def __init__(self, window_ms: int, most: int = MOST_KEYS) -> None:
        self._window_ms = window_ms
        self._most = most
        self._since: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._since)

    def holds(self, key: str, now_ms: int) -> bool:
        """Whether the key was acknowledged within the window."""
        since = self._since.get(hash(key))
        return since is not None and now_ms - since <= self._window_ms

    def add(self, keys: Iterable[str], now_ms: int) -> None:
        """Take in keys whose records are durable; the oldest make room."""
        for key in keys:
            self._since[hash(key)] = now_ms
        while len(self._since) > self._most or self._is_old(now_ms):
            del self._since[next(iter(self._since))]

    def _is_old(self, now_ms: int) -> bool:
        oldest = next(iter(self._since.values()), now_ms)
        return now_ms - oldest > self._window_ms
