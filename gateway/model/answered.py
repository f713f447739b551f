"""Ingest's own window: what this process has seen acknowledged, to answer retries at once.

It decides nothing: what it has forgotten goes into the log again, and is a duplicate there.
"""

from collections.abc import Iterable

MOST_KEYS = 200_000
"""About 20 MB."""


class Answered:
    """Keys of acknowledged events, bounded by count and by time.

    They are in two halves, so that making room is cheap: the older half goes as a whole.
    """

    def __init__(self, window_ms: int, most: int = MOST_KEYS) -> None:
        self._window_ms = window_ms
        self._half = most // 2
        self._newer: dict[int, int] = {}
        self._older: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._newer) + len(self._older)

    def holds(self, key: str, now_ms: int) -> bool:
        """Whether the key was acknowledged within the window."""
        mark = hash(key)
        since = self._newer.get(mark, self._older.get(mark))
        return since is not None and now_ms - since <= self._window_ms

    def add(self, keys: Iterable[str], now_ms: int) -> None:
        """Take in keys whose records are durable; the oldest make room."""
        for key in keys:
            if len(self._newer) >= self._half:
                self._older, self._newer = self._newer, {}
            self._newer[hash(key)] = now_ms
