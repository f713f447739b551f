"""Which records may go (rule 5). Pure.

A log's times never fall, so each rule here is true of a stretch at the log's beginning, and false
of what follows: whoever removes records begins at the oldest and stops at the first that stays.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

DEAD_MS = 30 * 86_400_000
"""How long dead letters, and events rejected at ingest, are kept (DESIGN: 30 days)."""


class Place(NamedTuple):
    """Where a destination stands in `events`: its committed offset."""

    offset: int
    time_ms: int
    """The log's time of the record there; at the log's end, the least that the next will have."""


@dataclass(slots=True, frozen=True)
class Limits:
    """What does not differ from record to record."""

    now_ms: int
    retention_ms: int
    window_records: int
    """Of one partition."""
    window_ms: int
    short: bool
    """Room is short: age no longer counts. That somebody still needs a record always does."""

    def aged(self, time_ms: int) -> bool:
        """Whether a record is old enough to go."""
        return self.short or time_ms < self.now_ms - self.retention_ms


def event_may_go(offset: int, time_ms: int, places: Sequence[Place | None], limits: Limits) -> bool:
    """Whether a record of `events` is aged, and every destination has left it a window behind.

    A place is None for a destination without a commit: everything stays.
    """
    return limits.aged(time_ms) and all(
        place is not None and _left_behind(offset, time_ms, place, limits) for place in places
    )


def _left_behind(offset: int, time_ms: int, place: Place, limits: Limits) -> bool:
    """Whether a record is outside the window of the next record the destination will judge.

    The same bounds as `Window` forgets by: it is outside when either is passed. One record more
    stays, so that a window read anew knows that the count cut it short.
    """
    outside = place.offset - limits.window_records - 1
    return offset < outside or time_ms < place.time_ms - limits.window_ms


def outcome_may_go(
    offset: int,
    time_ms: int,
    needed_from: Sequence[int | None],
    oldest_event_ms: int | None,
    limits: Limits,
) -> bool:
    """Whether a record of `outcomes` is aged, and neither a successor nor `trace` needs it.

    `needed_from`: each destination's committed `outcomes_offset`, None without a commit. An entry
    is about events that the log took no later than itself: once the oldest event left
    (`oldest_event_ms`, None when none is) is younger, all it is about is gone.
    """
    events_gone = oldest_event_ms is None or time_ms < oldest_event_ms
    return (
        limits.aged(time_ms)
        and events_gone
        and all(needed is not None and offset < needed for needed in needed_from)
    )


def dead_letter_may_go(time_ms: int, now_ms: int) -> bool:
    """Whether a record of `dead` has been kept for 30 days."""
    return time_ms < now_ms - DEAD_MS
