"""Takes facts into the index, each batch in one transaction."""

import logging
import sqlite3
from collections.abc import Callable, Sequence

import orjson

from gateway.adapters.index import file
from gateway.model import dead
from gateway.model.attempt import WAITS, WHOLE
from gateway.model.dead import Deed, Handled
from gateway.model.journal import Answer, Attempt, Entry, Pause, Postponed, Settled, Snapshot
from gateway.model.life import Buried, Decided, Fact, Noted, Place, Taken
from gateway.model.outcome import Outcome, Reason
from gateway.model.retention import DEAD_MS
from gateway.ports import Log, Mark

_log = logging.getLogger(__name__)

_DAY_MS = 86_400_000
_UNFIT = (sqlite3.ProgrammingError, sqlite3.InterfaceError, OverflowError)
"""A value that no column takes: one record that is of other types than it says stops nothing."""


def put(
    connection: sqlite3.Connection, source: tuple[Log, int, Mark], facts: Sequence[Fact]
) -> None:
    """Take facts in; one that no column takes is left out.

    That is found one by one only where there is such a fact: a savepoint costs as much as a fact.
    """
    try:
        _add_all(connection, source, facts, _Writer.add)
    except _UNFIT:
        _add_all(connection, source, facts, _Writer.add_if_fit)


def _add_all(
    connection: sqlite3.Connection,
    source: tuple[Log, int, Mark],
    facts: Sequence[Fact],
    add: Callable[["_Writer", Fact], None],
) -> None:
    log, partition, mark = source
    with file.transaction(connection):
        writer = _Writer(connection)
        for fact in facts:
            add(writer, fact)
        writer.finish()
        connection.execute(
            "INSERT OR REPLACE INTO marks VALUES (?, ?, ?, ?)", (log.value, partition, *mark)
        )


class _Writer:
    """Takes facts in, within one transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._run = connection.execute
        self._connection = connection
        self._change: int = file.get_meta(connection, "change")
        self._snapshots: dict[tuple[str, int], tuple[int, frozenset[int]]] = {}

    def finish(self) -> None:
        file.set_meta(self._connection, "change", self._change)

    def add_if_fit(self, fact: Fact) -> None:
        self._run("SAVEPOINT fact")
        try:
            self.add(fact)
        except _UNFIT as error:
            self._run("ROLLBACK TO fact")
            _log.warning("%s %s is left out: %s", type(fact).__name__, fact.place, error)
        self._run("RELEASE fact")

    def add(self, fact: Fact) -> None:
        match fact:
            case Taken():
                self._taken(fact)
            case Buried():
                self._buried(fact)
            case Decided():
                self._decided(fact)
            case Noted(place, time_ms, entry):
                self._noted(place, time_ms, entry)

    def _noted(self, place: Place, time_ms: int, entry: Entry) -> None:
        self._heard(entry.destination, place.partition, entry.time_ms)
        match entry:
            case Attempt():
                self._attempt(place, time_ms, entry)
            case Answer():
                self._answer(place, time_ms, entry)
            case Snapshot():
                self._snapshot(place, entry)
            case Pause():
                self._pause(entry)

    def _taken(self, event: Taken) -> None:
        self._change += 1
        values = (event.site, event.type, event.id, event.dedup_key, " ".join(event.destinations))
        self._run(
            "INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*event.place, event.time_ms, self._change, *values, event.record),
        )
        if event.replay is not None:  # seen in the log: whoever published it need not say so
            handled = Handled(*event.replay, event.place.offset)
            self._handled(event.place.partition, handled, Deed.REPLAYED, event.time_ms)
        for value in event.ids:
            self._run(
                "INSERT OR IGNORE INTO ids VALUES (?, ?, ?, ?)",
                (value, event.time_ms, *event.place),
            )
        for destination in event.destinations:
            if not self._done(event.place, destination):
                self._run(
                    "INSERT OR IGNORE INTO waiting VALUES (?, ?, ?, ?)",
                    (*event.place, destination, event.time_ms),
                )

    def _done(self, place: Place, destination: str) -> bool:
        """Whether an outcome is known, or the destination has gone past the event."""
        following, still_open = self._last_snapshot(destination, place.partition)
        if place.offset < following and place.offset not in still_open:
            return True
        found = self._run(
            "SELECT 1 FROM outcomes WHERE partition = ? AND offset = ? AND destination = ?",
            (*place, destination),
        )
        return found.fetchone() is not None

    def _last_snapshot(self, destination: str, partition: int) -> tuple[int, frozenset[int]]:
        key = (destination, partition)
        if key not in self._snapshots:
            row = self._run(
                "SELECT next, open FROM heard WHERE destination = ? AND partition = ?", key
            ).fetchone()
            known = row is not None and row["next"] is not None
            self._snapshots[key] = (
                (row["next"], frozenset(orjson.loads(row["open"]))) if known else (0, frozenset())
            )
        return self._snapshots[key]

    def _heard(self, destination: str, partition: int, made_ms: int) -> None:
        self._run(
            "INSERT INTO heard VALUES (?, ?, ?, NULL, NULL) ON CONFLICT DO UPDATE"
            " SET made_ms = max(made_ms, excluded.made_ms)",
            (destination, partition, made_ms),
        )

    def _snapshot(self, place: Place, entry: Snapshot) -> None:
        still_open = [each.offset for each in entry.open]
        self._run(
            "UPDATE heard SET next = ?, open = ? WHERE destination = ? AND partition = ?",
            (entry.next, orjson.dumps(still_open), entry.destination, place.partition),
        )
        self._snapshots.pop((entry.destination, place.partition), None)
        self._run(
            "DELETE FROM waiting WHERE partition = ? AND destination = ? AND offset < ?"
            " AND offset NOT IN (SELECT value FROM json_each(?))",
            (place.partition, entry.destination, entry.next, orjson.dumps(still_open).decode()),
        )

    def _attempt(self, place: Place, time_ms: int, entry: Attempt) -> None:
        self._entry(place, time_ms, (entry.endpoint, None, entry.request))
        head = ("attempt", entry.destination)
        for offset in entry.offsets:
            self._step(
                (place.partition, offset, place.offset, *head),
                (None, None, "", None, entry.time_ms, time_ms),
            )

    def _answer(self, place: Place, time_ms: int, entry: Answer) -> None:
        self._entry(place, time_ms, (entry.endpoint, entry.status, entry.answer))
        times = (entry.time_ms, time_ms)
        for done in entry.settled:
            self._step(
                (place.partition, done.offset, place.offset, "settled", entry.destination),
                (done.outcome.value, _value(done.reason), done.detail, None, *times),
            )
            self._settle(Place(place.partition, done.offset), entry, done, time_ms)
        for put_off in entry.postponed:
            self._step(
                (place.partition, put_off.offset, place.offset, "postponed", entry.destination),
                (None, put_off.reason.value, put_off.detail, put_off.next_ms, *times),
            )
            if put_off.reason not in WAITS:  # that is no fault of the destination's
                self._trouble(entry, put_off)
        if _was_let_in(entry):
            # Also where it went on in another process, which says nothing of the pause, or by
            # another path: one alone, and several, may have theirs.
            self._run(
                "DELETE FROM pauses WHERE destination = ? AND request_kind = ?",
                (entry.destination, entry.request_kind),
            )

    def _pause(self, entry: Pause) -> None:
        key = (entry.destination, entry.request_kind)
        self._run("DELETE FROM pauses WHERE destination = ? AND request_kind = ?", key)
        if entry.on:
            self._run(
                "INSERT INTO pauses VALUES (?, ?, ?, ?, ?)",
                (*key, entry.endpoint, entry.time_ms, entry.detail),
            )

    def _entry(self, place: Place, time_ms: int, made: tuple[str | None, int | None, str]) -> None:
        self._run(
            "INSERT OR REPLACE INTO entries VALUES (?, ?, ?, ?, ?, ?)", (*place, *made, time_ms)
        )

    def _step(self, key: tuple[int | str, ...], rest: tuple[int | str | None, ...]) -> None:
        self._run(
            "INSERT OR REPLACE INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*key, *rest)
        )
        self._touch(*key[:2])

    def _touch(self, *event: int | str) -> None:
        """Note that more became known of an event."""
        self._change += 1
        self._run(
            "UPDATE events SET change = ? WHERE partition = ? AND offset = ?",
            (self._change, *event),
        )

    def _settle(self, event: Place, entry: Answer, done: Settled, time_ms: int) -> None:
        first = self._run(
            "INSERT OR IGNORE INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(*event, entry.destination, done.outcome.value, _value(done.reason)),
                *(done.detail, entry.time_ms, time_ms),
            ),
        ).rowcount
        if not first:
            return
        self._run(
            "DELETE FROM waiting WHERE partition = ? AND offset = ? AND destination = ?",
            (*event, entry.destination),
        )
        self._run(
            "INSERT INTO tallies VALUES (?, ?, ?, 1) ON CONFLICT DO UPDATE SET number = number + 1",
            (entry.destination, done.outcome.value, entry.time_ms // file.MINUTE_MS),
        )
        if done.outcome is Outcome.DEAD:
            self._trouble(entry, done)

    def _trouble(self, entry: Answer, what: Settled | Postponed) -> None:
        self._run(
            "INSERT OR REPLACE INTO troubles VALUES (?, ?, ?, ?, ?, ?)",
            (
                *(entry.destination, entry.time_ms, _value(what.reason) or ""),
                *(what.detail or entry.answer[:500], entry.endpoint, entry.status),
            ),
        )

    def _buried(self, buried: Buried) -> None:
        letter = buried.letter
        self._run(
            "INSERT OR REPLACE INTO letters VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(*buried.place, buried.time_ms, letter.destination, letter.site, letter.reason),
                *(buried.type, buried.id, letter.offset),
                *(*letter.subject(buried.place.offset)[1:], buried.record),
            ),
        )
        for value in buried.ids:
            self._run(
                "INSERT OR IGNORE INTO letter_ids VALUES (?, ?, ?, ?)",
                (value, buried.time_ms, *buried.place),
            )

    def _decided(self, fact: Decided) -> None:
        """Take in a decision; the first that ends the matter counts. They outlive their letters."""
        for each in fact.decision.letters:
            self._handled(fact.place.partition, each, fact.decision.deed, fact.decision.time_ms)
        self._run("DELETE FROM decisions WHERE made_ms < ?", (fact.time_ms - DEAD_MS - _DAY_MS,))

    def _handled(self, partition: int, handled: Handled, deed: Deed, made_ms: int) -> None:
        self._run(
            "INSERT INTO decisions VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE"
            " SET deed = excluded.deed, made_ms = excluded.made_ms, became = excluded.became"
            " WHERE deed = ? AND excluded.deed != ?",
            (partition, *handled.subject, deed, made_ms, handled.became, Deed.ASKED, Deed.ASKED),
        )
        if handled.destination != dead.INGEST:
            self._touch(partition, handled.origin)


def _value(reason: Reason | None) -> str | None:
    return reason.value if reason else None


def _was_let_in(entry: Answer) -> bool:
    """Whether the destination looked at an event, so that neither key nor address is wrong."""
    by_answer = {done.reason for done in entry.settled if done.outcome is not Outcome.SUPERSEDED}
    by_answer |= {each.reason for each in entry.postponed}
    return bool(by_answer - WHOLE - _WITHOUT_ANSWER)


_WITHOUT_ANSWER = frozenset({Reason.UNKNOWN, Reason.EXPIRED, Reason.FAILED_ALONE})
