"""What waits to be sent: by request kind, one at a time per key, not before its time. No IO.

`now` is the event loop's clock, in seconds.
"""

import heapq
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from gateway.model.attempt import Again, Item
from gateway.model.envelope import Envelope

UNCAPPED = 1 << 30
Held = Mapping[str, float | None]
"""Request kinds that wait: so many seconds more, or (None) until somebody says that it is over."""
NOTHING: Held = MappingProxyType({})


@dataclass(slots=True, eq=False)
class Entry:
    """A record of this destination without an outcome."""

    offset: int
    time_ms: int
    """The log's time, from which `retry_for_seconds` runs."""
    envelope: Envelope
    item: Item
    attempts: int = 0
    in_flight: bool = False
    stale: bool = False
    """A newer state of its cart was read while its request was in flight."""
    gone: bool = False
    """Its outcome is decided, if perhaps not yet written; lanes pass over it."""
    behind: bool = False
    """It waits for others of its key, which may go first."""
    cap: int = UNCAPPED
    """The most items of a request it may share, after a larger one was refused."""
    first_failed_ms: int | None = None
    alone_since_ms: int | None = None
    """When another first went through after this one's first failure."""
    waits_since_ms: int | None = None
    """When the destination first said that it waits for another event."""
    last: Again | None = None
    next_ms: int | None = None
    """Not to be attempted before."""
    limited: bool = False
    """Until then the destination asked for less."""
    queued_at: float = field(default=0.0)
    not_before: float = field(default=0.0)


class Lanes:
    """The order of sending. An entry is in one place: a lane, a timer, behind its key, or out."""

    def __init__(self, batch_seconds: float) -> None:
        self._batch_seconds = batch_seconds
        self._ready: dict[str, deque[Entry]] = {}
        self._chains: dict[str, deque[Entry]] = {}
        self._timers: list[tuple[float, int]] = []
        self._timed: dict[int, tuple[float, Entry]] = {}
        """By offset; a timer that it does not know is over."""
        self._behind: dict[str, dict[int, Entry]] = {}
        """What yielded, by key and offset."""

    def add(
        self, entry: Entry, now: float, not_before: float = 0.0, *, yields: bool = False
    ) -> None:
        """Take in a new entry; it waits for those before it with the same key.

        One that a predecessor had tried is ready at `not_before`; `yields` as in `again`.
        """
        entry.queued_at = now
        entry.not_before = not_before
        key = entry.item.key
        if yields and key is not None:
            self._yield(entry, key)
            self._time(entry, not_before)
            return
        if key is not None:
            chain = self._chains.setdefault(key, deque())
            chain.append(entry)
            if len(chain) > 1:
                return
        self._line_up(entry)

    def _line_up(self, entry: Entry) -> None:
        """Let the first of its key go, in its time."""
        if entry.not_before:
            self._time(entry, entry.not_before)
        else:
            self._lane(entry).append(entry)

    def again(self, entry: Entry, at: float, *, yields: bool = False) -> None:
        """Take back an entry whose request failed; it is ready at `at`.

        It keeps its place before others of its key, unless it `yields`: a sale that waits for its
        customer's lead must let that lead pass.
        """
        if yields and entry.item.key is not None:
            self._leave_chain(entry)
            self._yield(entry, entry.item.key)
        self._time(entry, at)

    def _yield(self, entry: Entry, key: str) -> None:
        entry.behind = True
        self._behind.setdefault(key, {})[entry.offset] = entry

    def _time(self, entry: Entry, at: float) -> None:
        self._timed[entry.offset] = (at, entry)
        heapq.heappush(self._timers, (at, entry.offset))

    def passed(self, entry: Entry, now: float) -> None:
        """Let what yielded to others of the key go at once: one of them was taken."""
        waiting = self._behind.get(entry.item.key or "", {})
        for offset in sorted(waiting):
            _, each = self._timed.pop(offset)
            self._return(each, now)

    def remove(self, entry: Entry) -> None:
        """Let go of an entry that has its outcome, wherever it is; the next of its key is ready."""
        if entry.gone:
            return
        entry.gone = True
        self._timed.pop(entry.offset, None)
        if entry.behind:
            self._no_longer_behind(entry)
        else:
            self._leave_chain(entry)

    def _return(self, entry: Entry, now: float) -> None:
        """Put what yielded to the end of its key's order."""
        self._no_longer_behind(entry)
        self.add(entry, now)

    def _no_longer_behind(self, entry: Entry) -> None:
        entry.behind = False
        key = entry.item.key or ""
        del self._behind[key][entry.offset]
        if not self._behind[key]:
            del self._behind[key]

    def _leave_chain(self, entry: Entry) -> None:
        key = entry.item.key
        if key is None:
            return
        chain = self._chains[key]
        was_first = chain[0] is entry
        chain.remove(entry)
        if not chain:
            del self._chains[key]
        elif was_first:
            self._line_up(chain[0])

    def take(self, now: float, limit_of: dict[str, int], held: Held = NOTHING) -> list[Entry]:
        """Return the next batch that is due, one kind but none of those `held`, or an empty list.

        A lane is due when it can fill a batch, or its first entry has waited `batch_seconds`.
        """
        self._wake(now)
        due = [
            lane
            for kind, lane in self._ready.items()
            if kind not in held and self._due(lane, limit_of[kind], now)
        ]
        if not due:
            return []
        lane = min(due, key=lambda each: each[0].queued_at)
        return _cut(lane, limit_of[lane[0].item.kind])

    def seconds_until_due(
        self, now: float, limit_of: dict[str, int], held: Held = NOTHING
    ) -> float | None:
        """Return how long until `take` may give something; None: not before more arrives."""
        times = [self._timers[0][0]] if self._next_timed() else []
        for kind, lane in self._ready.items():
            due = self._due(lane, limit_of[kind], now)
            wait = held.get(kind, 0.0)
            if due and wait == 0.0:
                return 0.0
            if lane and wait is not None:
                at = now if due else lane[0].queued_at + self._batch_seconds
                times.append(max(at, now + wait))
        return max(0.0, min(times) - now) if times else None

    def _wake(self, now: float) -> None:
        woken: list[Entry] = []
        while (entry := self._next_timed()) is not None and self._timers[0][0] <= now:
            heapq.heappop(self._timers)
            del self._timed[entry.offset]
            if entry.behind:
                self._return(entry, now)
            else:
                woken.append(entry)
        for entry in reversed(woken):
            entry.queued_at = -self._batch_seconds  # it has waited enough
            self._lane(entry).appendleft(entry)

    def _next_timed(self) -> Entry | None:
        """Return the entry of the first timer, dropping those that are over."""
        while self._timers:
            at, offset = self._timers[0]
            timed = self._timed.get(offset)
            if timed is not None and timed[0] == at:
                return timed[1]
            heapq.heappop(self._timers)
        return None

    def _due(self, lane: deque[Entry], limit: int, now: float) -> bool:
        while lane and lane[0].gone:
            lane.popleft()
        if not lane:
            return False
        full = len(lane) >= min(limit, lane[0].cap)
        return full or now >= lane[0].queued_at + self._batch_seconds

    def _lane(self, entry: Entry) -> deque[Entry]:
        return self._ready.setdefault(entry.item.kind, deque())


def _cut(lane: deque[Entry], limit: int) -> list[Entry]:
    batch: list[Entry] = []
    most = limit
    while lane:
        most = min(most, lane[0].cap)
        if len(batch) >= most:
            break
        entry = lane.popleft()
        if not entry.gone:
            batch.append(entry)
    return batch
