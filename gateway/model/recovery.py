"""What a successor learns from the outcome log of a destination's partition. Pure.

Entries are taken in the log's order, from the commit's `outcomes_offset` on.
"""

from dataclasses import replace
from typing import TypedDict

from gateway.model.attempt import NOT_ITS_FAULT, WAITS, Tried, tried_after
from gateway.model.journal import Answer, Attempt, Entry, Open, Postponed, Snapshot
from gateway.model.outcome import Reason


class _Now(TypedDict):
    next_ms: int | None
    limited: bool


_NOW: _Now = {"next_ms": None, "limited": False}


class Recovery:
    """Which records have their outcome, and what is known of those that were begun."""

    def __init__(self, position: int) -> None:
        """`position`: the committed offset; every record below it has its outcome."""
        self.position = position
        self.high = position
        """One past the last record that the predecessor did something about."""
        self.latest_ms = 0
        """When it did the last thing, by a clock that may have been set back since."""
        self._next = position
        self._listed: frozenset[int] = frozenset()
        self._settled: set[int] = set()
        self._known: dict[int, Open] = {}

    def take(self, entry: Entry) -> None:
        """Take in the next entry of the destination."""
        self.latest_ms = max(self.latest_ms, entry.time_ms)
        match entry:
            case Attempt():
                self._attempt(entry)
            case Answer():
                self._answer(entry)
            case Snapshot():
                self._snapshot(entry)
            case _:  # a pause: the settings may have been mended since
                pass

    def is_settled(self, offset: int) -> bool:
        """Whether a record has its outcome."""
        if offset < self.position or offset in self._settled:
            return True
        return offset < self._next and offset not in self._listed

    def memory(self, offset: int) -> Open:
        """Return what is known of a record without an outcome; with doubt made explicit."""
        known = self._known.get(offset, Open(offset))
        return replace(known, tried=Tried.IN_DOUBT) if known.in_flight else known

    def _attempt(self, entry: Attempt) -> None:
        for offset in entry.offsets:
            known = self._known.get(offset, Open(offset))
            self._known[offset] = replace(
                known, attempts=known.attempts + 1, in_flight=True, **_NOW
            )
            self.high = max(self.high, offset + 1)

    def _answer(self, entry: Answer) -> None:
        for settled in entry.settled:
            self._settled.add(settled.offset)
            self._known.pop(settled.offset, None)
            self.high = max(self.high, settled.offset + 1)
        for postponed in entry.postponed:
            known = self._known.get(postponed.offset, Open(postponed.offset))
            failed = postponed.reason not in NOT_ITS_FAULT
            waits = postponed.reason in WAITS
            self._known[postponed.offset] = replace(
                known,
                in_flight=False,
                tried=tried_after(known.tried, postponed.reason),
                first_failed_ms=known.first_failed_ms or (entry.time_ms if failed else None),
                waits_since_ms=known.waits_since_ms or (entry.time_ms if waits else None),
                next_ms=not_before(postponed),
                limited=postponed.reason is Reason.RATE_LIMITED,
            )
            self.high = max(self.high, postponed.offset + 1)

    def _snapshot(self, entry: Snapshot) -> None:
        """Add what the snapshot knows; entries before it in the log may be newer than it is."""
        self._next = max(self._next, entry.next)
        self._listed = frozenset(each.offset for each in entry.open)
        self.high = max(self.high, entry.next)
        for each in entry.open:
            if each.offset not in self._settled:
                known = self._known.get(each.offset)
                self._known[each.offset] = _merge(each, known) if known else each


def _merge(listed: Open, seen: Open) -> Open:
    doubt = Tried.IN_DOUBT in {listed.tried, seen.tried}
    return Open(
        offset=listed.offset,
        attempts=max(listed.attempts, seen.attempts),
        tried=Tried.IN_DOUBT if doubt else max(listed.tried, seen.tried, key=list(Tried).index),
        in_flight=seen.in_flight,
        first_failed_ms=_earliest(listed.first_failed_ms, seen.first_failed_ms),
        alone_since_ms=listed.alone_since_ms or seen.alone_since_ms,
        waits_since_ms=_earliest(listed.waits_since_ms, seen.waits_since_ms),
        next_ms=seen.next_ms,
        limited=seen.limited,
    )


def not_before(postponed: Postponed) -> int | None:
    """Return until when a successor keeps from another try.

    Not at all where the settings looked wrong: it may have begun because they were mended.
    """
    return None if postponed.reason is Reason.UNAUTHORIZED else postponed.next_ms


def _earliest(*since_ms: int | None) -> int | None:
    return min((ms for ms in since_ms if ms is not None), default=None)
