"""The ledger's index in SQLite: a file beside the buffer, a cache.

Whatever is wrong with the file at start (lost, broken, of another version, made for other routes)
it is made anew, and the ledger reads the logs again. A file that does not say that it is an index
is never touched: it may be the log itself. One thread writes, another one answers.
Times in the columns `time_ms` are the log's, `made_ms` the writer's own.
"""

import asyncio
import logging
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Concatenate, TypeVar

import orjson

from gateway.model import dead
from gateway.model.attempt import WAITS, WHOLE
from gateway.model.dead import Deed, Handled, Subject
from gateway.model.journal import Answer, Attempt, Entry, Pause, Postponed, Settled, Snapshot
from gateway.model.life import (
    OPEN,
    Buried,
    Decided,
    Fact,
    Fate,
    Filters,
    Handling,
    Known,
    Letter,
    LetterFilters,
    Noted,
    Paused,
    Place,
    Standing,
    Step,
    Taken,
    Trouble,
    parse_place,
)
from gateway.model.outcome import Outcome, Reason
from gateway.model.retention import DEAD_MS
from gateway.ports import IndexFailedError, Log, Mark, Page

VERSION = "2"
APPLICATION_ID = 0x67617469
"""Marks the file as an index (SQLite's `application_id`); the embedded log's mark is another."""
_MARK_AT = 68
_MARK = b"SQLite format 3\0", APPLICATION_ID.to_bytes(4, "big")
"""How the file begins, and what stands at `_MARK_AT` (sqlite.org/fileformat2.html, 1.3)."""
STEPS = 200
"""Steps of one event that are shown; of more, the last ones."""
ANSWER_SECONDS = 10.0
"""A question that takes longer is given up: somebody waits for it."""
_MINUTE_MS = 60_000
_DAY_MS = 86_400_000
_FILL = 0.9
"""Above this share of `index_bytes` the oldest are removed, down to `_AFTER`."""
_AFTER = 0.8
_DEAD_SHARE = 0.25
_END = 1 << 62

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE marks (log, partition INTEGER, next INTEGER, time_ms INTEGER,
    PRIMARY KEY (log, partition)) WITHOUT ROWID;
CREATE TABLE events (partition INTEGER, offset INTEGER, time_ms INTEGER, change INTEGER, site, type,
    id, dedup_key, destinations, record BLOB, PRIMARY KEY (partition, offset));
CREATE INDEX events_time ON events (time_ms, partition, offset);
CREATE INDEX events_change ON events (change);
CREATE INDEX events_key ON events (dedup_key, partition, offset);
CREATE TABLE ids (value TEXT, time_ms INTEGER, partition INTEGER, offset INTEGER,
    PRIMARY KEY (value, time_ms, partition, offset)) WITHOUT ROWID;
CREATE INDEX ids_time ON ids (time_ms);
CREATE TABLE outcomes (partition INTEGER, offset INTEGER, destination, outcome, reason, detail,
    made_ms INTEGER, time_ms INTEGER,
    PRIMARY KEY (partition, offset, destination)) WITHOUT ROWID;
CREATE INDEX outcomes_time ON outcomes (time_ms);
CREATE INDEX outcomes_outcome ON outcomes (outcome, time_ms, partition, offset);
CREATE TABLE waiting (partition INTEGER, offset INTEGER, destination, time_ms INTEGER,
    PRIMARY KEY (partition, offset, destination)) WITHOUT ROWID;
CREATE INDEX waiting_time ON waiting (time_ms, partition, offset);
CREATE INDEX waiting_destination ON waiting (destination, time_ms);
CREATE TABLE entries (partition INTEGER, at INTEGER, endpoint, status INTEGER, text,
    time_ms INTEGER, PRIMARY KEY (partition, at)) WITHOUT ROWID;
CREATE INDEX entries_time ON entries (time_ms);
CREATE TABLE steps (partition INTEGER, offset INTEGER, at INTEGER, kind, destination, outcome,
    reason, detail, next_ms INTEGER, made_ms INTEGER, time_ms INTEGER,
    PRIMARY KEY (partition, offset, at)) WITHOUT ROWID;
CREATE INDEX steps_time ON steps (time_ms);
CREATE TABLE tallies (destination, outcome, minute INTEGER, number INTEGER,
    PRIMARY KEY (destination, outcome, minute)) WITHOUT ROWID;
CREATE TABLE heard (destination, partition INTEGER, made_ms INTEGER, next INTEGER, open,
    PRIMARY KEY (destination, partition)) WITHOUT ROWID;
CREATE TABLE pauses (destination, request_kind, endpoint, made_ms INTEGER, detail,
    PRIMARY KEY (destination, request_kind)) WITHOUT ROWID;
CREATE TABLE troubles (destination PRIMARY KEY, made_ms INTEGER, reason, detail, endpoint,
    status INTEGER) WITHOUT ROWID;
CREATE TABLE letters (partition INTEGER, offset INTEGER, time_ms INTEGER, destination, site, reason,
    type, id, event_offset INTEGER, origin INTEGER, number INTEGER, record BLOB,
    PRIMARY KEY (partition, offset));
CREATE INDEX letters_time ON letters (time_ms, partition, offset);
CREATE INDEX letters_event ON letters (partition, event_offset);
CREATE TABLE letter_ids (value TEXT, time_ms INTEGER, partition INTEGER, offset INTEGER,
    PRIMARY KEY (value, time_ms, partition, offset)) WITHOUT ROWID;
CREATE TABLE decisions (partition INTEGER, destination, origin INTEGER, number INTEGER, deed,
    made_ms INTEGER, became INTEGER,
    PRIMARY KEY (partition, destination, origin, number)) WITHOUT ROWID;
CREATE INDEX decisions_time ON decisions (made_ms);
CREATE INDEX letter_ids_time ON letter_ids (time_ms);
"""
_UNFIT = (sqlite3.ProgrammingError, sqlite3.InterfaceError, OverflowError)
"""A value that no column takes: one record that is of other types than it says stops nothing."""
_BY_TIME = ("events", "ids", "outcomes", "waiting", "entries", "steps")

T = TypeVar("T")
_log = logging.getLogger(__name__)
Rows = Iterable[sqlite3.Row]


class SqliteIndex:
    """The `Index` port. Needs `start` before anything else."""

    def __init__(self, path: str, index_bytes: int) -> None:
        self._path = Path(path)
        self._bytes = index_bytes
        self._writer = _Worker("index-writer", self._path)
        self._reader = _Worker("index-reader", self._path)

    async def start(self, routes: str, since_ms: int) -> Mapping[tuple[Log, int], Mark]:
        """Open the file, or make it anew. Raises IndexFailedError when it can't be made."""
        made_for = f"{VERSION} {routes}"
        marks = await self._writer.open(lambda: _open(self._path, made_for, since_ms), _marks)
        await self._reader.open(lambda: _open_reader(self._path), lambda _: None)
        return marks

    async def stop(self) -> None:
        """Close both connections."""
        await self._reader.close()
        await self._writer.close()

    async def clear(self, since_ms: int) -> None:
        """Forget everything."""
        await self._writer.run(_clear, since_ms)

    async def put(self, log: Log, partition: int, mark: Mark, facts: Sequence[Fact]) -> None:
        """Take in records and their mark in one transaction, then keep to the size."""
        await self._writer.run(_put, (log, partition, mark), facts)
        await self._writer.run(_keep_to, self._bytes)

    async def forget(self, events_ms: int, letters_ms: int) -> None:
        """Erase events, and dead letters, from before these times."""
        await self._writer.run(_forget, events_ms, letters_ms)

    async def reach_ms(self) -> int:
        """Return since when everything is held."""
        return await self._reader.run(_read, _reach_ms)

    async def find(self, value: str, limit: int) -> list[Known]:
        """Return the events that bear an id or stand at that place, newest first."""
        return await self._reader.run(_read, _find, value, limit)

    async def events(self, filters: Filters, cursor: str | None, limit: int) -> Page:
        """Return a page of events: by the log's time, or for an outcome by the outcome's."""
        return await self._reader.run(_read, _events, filters, cursor, limit)

    async def changes(self, cursor: str | None, limit: int) -> Page:
        """Return what changed since."""
        return await self._reader.run(_read, _changes, cursor, limit)

    async def letters(self, filters: LetterFilters, cursor: str | None, limit: int) -> Page:
        """Return a page of dead letters."""
        return await self._reader.run(_read, _letters, filters, cursor, limit)

    async def letter(self, place: Place) -> Letter | None:
        """Return one dead letter."""
        return await self._reader.run(_read, _letter, place)

    async def handling(self, partition: int, subject: Subject) -> Handling | None:
        """Return what was done about a dead letter."""
        return await self._reader.run(_read, _handling, partition, subject)

    async def find_letters(self, value: str, limit: int) -> list[Letter]:
        """Return the dead letters that bear an id."""
        return await self._reader.run(_read, _find_letters, value, limit)

    async def standings(self, now_ms: int) -> list[Standing]:
        """Return how each destination does."""
        return await self._reader.run(_read, _standings, now_ms)


class _Worker:
    """A thread with a connection; its errors come out as IndexFailedError."""

    def __init__(self, name: str, path: Path) -> None:
        self._name = name
        self._path = path
        self._pool: ThreadPoolExecutor | None = None
        self._connection: sqlite3.Connection | None = None

    async def open(
        self,
        connect: Callable[[], sqlite3.Connection],
        then: Callable[[sqlite3.Connection], T],
    ) -> T:
        def work() -> T:
            self._connection = connect()
            return then(self._connection)

        await self.close()
        self._pool = ThreadPoolExecutor(1, self._name)
        return await self._in_thread(self._pool, work)

    async def run(
        self,
        work: Callable[Concatenate[sqlite3.Connection, ...], T],
        *args: Any,
    ) -> T:
        connection, pool = self._connection, self._pool
        if connection is None or pool is None:
            raise IndexFailedError("the index is not open")
        return await self._in_thread(pool, lambda: work(connection, *args))

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        pool, self._pool = self._pool, None
        if pool is not None:
            if connection is not None:
                await self._in_thread(pool, connection.close)
            pool.shutdown(wait=False)

    async def _in_thread(self, pool: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, work)
        except sqlite3.OperationalError as error:
            if "interrupted" in str(error):
                raise IndexFailedError("it took too long to search: ask for less") from error
            raise IndexFailedError(f"the index failed ({self._path}): {error}") from error
        except (sqlite3.Error, OSError) as error:
            raise IndexFailedError(f"the index failed ({self._path}): {error}") from error


# Opening. All of what follows runs in one of the threads.


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    connection.row_factory = sqlite3.Row
    return connection


def _open(path: Path, made_for: str, since_ms: int) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    _refuse_others(path)
    connection = _try_open(path, made_for)
    if connection is None:
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)
        connection = _connect(path)
        # Before the write-ahead log, so that it is in the file itself from the first.
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        _settle(connection)
        connection.executescript(_SCHEMA)
        _begin(connection, since_ms)
        _set(connection, "made_for", made_for)
    return connection


def _refuse_others(path: Path) -> None:
    """Raise IndexFailedError if the file is something else than an index, whole or broken."""
    try:
        with path.open("rb") as file:
            begin = file.read(_MARK_AT + 4)
    except FileNotFoundError:
        return
    if begin and (begin[:16], begin[_MARK_AT:]) != _MARK:
        raise IndexFailedError(
            f"{path} is no index of this gateway: move it away, or set another console.index_path"
        )


def _try_open(path: Path, made_for: str) -> sqlite3.Connection | None:
    """Return the connection if the file is sound and made for this."""
    if not path.exists():
        return None
    connection = _connect(path)
    try:
        _settle(connection)
        if _get(connection, "made_for") == made_for and _sound(connection):
            return connection
    except sqlite3.DatabaseError:
        pass
    connection.close()
    return None


def _settle(connection: sqlite3.Connection) -> None:
    # NORMAL: a power cut may take the last transactions, never consistency; the logs have them.
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "journal_size_limit=16777216"):
        connection.execute(f"PRAGMA {pragma}").fetchall()
    connection.execute("PRAGMA secure_delete=ON").fetchall()  # what is removed is erased


def _sound(connection: sqlite3.Connection) -> bool:
    names = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    return {"events", "steps", "letters"} <= names


def _open_reader(path: Path) -> sqlite3.Connection:
    connection = _connect(path)
    connection.execute("PRAGMA query_only=ON")
    return connection


def _read(
    connection: sqlite3.Connection,
    query: Callable[Concatenate[sqlite3.Connection, ...], T],
    *args: Any,
) -> T:
    """Run a question in one view of the file, and give it up after ANSWER_SECONDS."""
    deadline = time.monotonic() + ANSWER_SECONDS
    connection.set_progress_handler(lambda: time.monotonic() > deadline, 10_000)
    connection.execute("BEGIN")
    try:
        return query(connection, *args)
    finally:
        connection.set_progress_handler(None, 0)
        connection.execute("COMMIT")


def _begin(connection: sqlite3.Connection, since_ms: int) -> None:
    # Cursors name the era, so that one from before is not taken for one of now.
    for name, value in (("era", secrets.token_hex(4)), ("change", 0), ("reach_ms", since_ms)):
        _set(connection, name, value)


def _clear(connection: sqlite3.Connection, since_ms: int) -> None:
    with _transaction(connection):
        names = [
            row[0]
            for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        for name in names:
            if name != "meta":
                connection.execute(f"DELETE FROM {name}")  # noqa: S608 - our own schema's names
        _begin(connection, since_ms)


def _get(connection: sqlite3.Connection, name: str) -> Any:
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return row[0] if row else None


def _set(connection: sqlite3.Connection, name: str, value: str | int) -> None:
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _marks(connection: sqlite3.Connection) -> dict[tuple[Log, int], Mark]:
    rows = connection.execute("SELECT log, partition, next, time_ms FROM marks")
    return {
        (Log(log), partition): Mark(following, time) for log, partition, following, time in rows
    }


# Writing.


def _put(
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
    with _transaction(connection):
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
        self._change: int = _get(connection, "change")
        self._snapshots: dict[tuple[str, int], tuple[int, frozenset[int]]] = {}

    def finish(self) -> None:
        _set(self._connection, "change", self._change)

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
            (entry.destination, done.outcome.value, entry.time_ms // _MINUTE_MS),
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


# Keeping to the size.


def _keep_to(connection: sqlite3.Connection, index_bytes: int) -> None:
    if _used_bytes(connection) <= index_bytes * _FILL:
        return
    _keep_letters_to(connection, round(index_bytes * _DEAD_SHARE))
    while _used_bytes(connection) > index_bytes * _AFTER:
        cutoff_ms = _oldest_eighth_ms(connection)
        if cutoff_ms is None:
            return
        with _transaction(connection):
            _remove_events(connection, cutoff_ms + 1)


def _forget(connection: sqlite3.Connection, events_ms: int, letters_ms: int) -> None:
    with _transaction(connection):
        if events_ms > _reach_ms(connection):
            _remove_events(connection, events_ms)
        _remove_letters(connection, letters_ms)


def _remove_events(connection: sqlite3.Connection, before_ms: int) -> None:
    for table in _BY_TIME:
        connection.execute(
            f"DELETE FROM {table} WHERE time_ms < ?",  # noqa: S608 - our own names
            (before_ms,),
        )
    connection.execute("DELETE FROM tallies WHERE minute < ?", (before_ms // _MINUTE_MS,))
    _set(connection, "reach_ms", max(before_ms, _reach_ms(connection)))


def _remove_letters(connection: sqlite3.Connection, before_ms: int) -> None:
    connection.execute("DELETE FROM letters WHERE time_ms < ?", (before_ms,))
    connection.execute("DELETE FROM letter_ids WHERE time_ms < ?", (before_ms,))


def _used_bytes(connection: sqlite3.Connection) -> int:
    pages, free, size = (
        int(connection.execute(f"PRAGMA {name}").fetchone()[0])
        for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def _oldest_eighth_ms(connection: sqlite3.Connection) -> int | None:
    """Return the time up to which an eighth of the larger table goes; None when both are empty."""
    sizes = {
        table: int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])  # noqa: S608
        for table in ("events", "steps", "entries")
    }
    table = max(sizes, key=lambda name: sizes[name])
    row = connection.execute(
        f"SELECT time_ms FROM {table} ORDER BY time_ms LIMIT 1 OFFSET ?",  # noqa: S608 - as above
        (sizes[table] // 8,),
    ).fetchone()
    return row[0] if row else None


def _keep_letters_to(connection: sqlite3.Connection, most_bytes: int) -> None:
    row = connection.execute(
        "SELECT max(time_ms) FROM (SELECT time_ms, sum(length(record) + 500)"
        " OVER (ORDER BY time_ms DESC, partition, offset) AS size FROM letters) WHERE size > ?",
        (most_bytes,),
    ).fetchone()
    if row[0] is not None:
        with _transaction(connection):
            _remove_letters(connection, row[0] + 1)


# Answering.


def _reach_ms(connection: sqlite3.Connection) -> int:
    return int(_get(connection, "reach_ms"))


def _find(connection: sqlite3.Connection, value: str, limit: int) -> list[Known]:
    rows = connection.execute(
        "SELECT e.* FROM ids i JOIN events e USING (partition, offset) WHERE i.value = ?"
        " ORDER BY i.time_ms DESC, i.partition DESC, i.offset DESC LIMIT ?",
        (value, limit),
    ).fetchall()
    place = parse_place(value)
    if place:
        rows += connection.execute(
            "SELECT * FROM events WHERE partition = ? AND offset = ?", place
        ).fetchall()
    return [_known(connection, row, whole=True) for row in rows]


def _events(
    connection: sqlite3.Connection, filters: Filters, cursor: str | None, limit: int
) -> Page:
    drive, where, values = _drive(filters)
    for column in ("site", "type"):
        wanted = getattr(filters, column)
        if wanted is not None:
            where.append(f"e.{column} = ?")
            values.append(wanted)
    after = _after(connection, cursor)
    conditions = " AND ".join([*where, "(d.time_ms, d.partition, d.offset) < (?, ?, ?)"])
    rows = connection.execute(
        "SELECT e.*, d.time_ms AS order_ms"  # noqa: S608 - built of literals, values are bound
        f" FROM {drive} d CROSS JOIN events e USING (partition, offset) WHERE {conditions}"
        " GROUP BY d.time_ms, d.partition, d.offset"
        " ORDER BY d.time_ms DESC, d.partition DESC, d.offset DESC LIMIT ?",
        (*values, *after, limit + 1),
    ).fetchall()
    more = None
    if len(rows) > limit:
        rows = rows[:limit]
        last = rows[-1]
        more = _cursor(connection, last["order_ms"], last["partition"], last["offset"])
    return Page(events=tuple(_known(connection, row) for row in rows), cursor=more)


def _drive(filters: Filters) -> tuple[str, list[str], list[Any]]:
    """Return the table whose order the page has, and what is asked of it."""
    if filters.outcome is None and filters.destination is None:
        return "events", [], []
    if filters.outcome is None:
        exists = " OR ".join(
            f"EXISTS (SELECT 1 FROM {table} o WHERE o.partition = e.partition"  # noqa: S608
            " AND o.offset = e.offset AND o.destination = ?)"
            for table in ("outcomes", "waiting")
        )
        return "events", [f"({exists})"], [filters.destination] * 2
    waits = filters.outcome == "waiting"
    where, values = ([], []) if waits else (["d.outcome = ?"], [filters.outcome])
    if filters.destination is not None:
        where.append("d.destination = ?")
        values.append(filters.destination)
    return ("waiting" if waits else "outcomes"), where, values


def _after(connection: sqlite3.Connection, cursor: str | None) -> tuple[int, int, int]:
    """Read a page's cursor; one from another era, or nonsense, begins with the newest."""
    era, *numbers = (cursor or "").split(".")
    if era == _get(connection, "era") and len(numbers) == len(Mark._fields) + 1:
        try:
            time_ms, partition, offset = map(int, numbers)
        except ValueError:
            return (_END, 0, 0)
        return time_ms, partition, offset
    return (_END, 0, 0)


def _cursor(connection: sqlite3.Connection, *numbers: int) -> str:
    return ".".join([_get(connection, "era"), *map(str, numbers)])


def _changes(connection: sqlite3.Connection, cursor: str | None, limit: int) -> Page:
    era, _, number = (cursor or "").partition(".")
    if era == _get(connection, "era") and number.isdecimal():
        rows = connection.execute(
            "SELECT * FROM events WHERE change > ? ORDER BY change LIMIT ?", (int(number), limit)
        ).fetchall()
        last = rows[-1]["change"] if rows else int(number)
    else:
        rows = connection.execute(
            "SELECT * FROM events ORDER BY time_ms DESC, partition DESC, offset DESC LIMIT ?",
            (limit,),
        ).fetchall()[::-1]
        last = _get(connection, "change")
    return Page(
        events=tuple(_known(connection, row) for row in rows), cursor=_cursor(connection, last)
    )


def _known(connection: sqlite3.Connection, row: sqlite3.Row, *, whole: bool = False) -> Known:
    place = Place(row["partition"], row["offset"])
    steps, left_out = _steps(connection, place) if whole else ((), 0)
    return Known(
        place=place,
        time_ms=row["time_ms"],
        site=row["site"],
        type=row["type"],
        id=row["id"],
        record=row["record"],
        fates=_fates(connection, place, row["destinations"].split()),
        change=row["change"],
        copy_of=_first_copy(connection, place, row["dedup_key"]),
        steps=steps,
        steps_left_out=left_out,
    )


def _first_copy(connection: sqlite3.Connection, place: Place, dedup_key: str) -> Place | None:
    row = connection.execute(
        "SELECT partition, offset FROM events WHERE dedup_key = ? AND partition = ? AND offset < ?"
        " ORDER BY offset LIMIT 1",
        (dedup_key, *place),
    ).fetchone()
    return Place(*row) if row else None


def _fates(
    connection: sqlite3.Connection, place: Place, destinations: list[str]
) -> tuple[Fate, ...]:
    at = "WHERE partition = ? AND offset = ?"
    fates: dict[str, Fate] = {}
    for row in connection.execute(f"SELECT * FROM outcomes {at}", place):  # noqa: S608 - a literal
        outcome = Outcome(row["outcome"])
        fates[row["destination"]] = Fate(
            row["destination"],
            outcome,
            waiting=False,
            reason=_reason(row["reason"]),
            detail=row["detail"],
            time_ms=row["made_ms"],
        )
        if outcome is Outcome.DEAD:
            fates[row["destination"]] = _buried(connection, place, fates[row["destination"]])
    for row in connection.execute(f"SELECT destination FROM waiting {at}", place):  # noqa: S608
        name = row["destination"]
        last = _select_steps(connection, place, "AND s.destination = ? ORDER BY s.at DESC", name)
        fates[name] = Fate(name, None, waiting=True, last=last[0] if last else None)
    for name in destinations:
        fates.setdefault(name, Fate(name, None, waiting=False))
    return tuple(fates[name] for name in sorted(fates))


def _buried(connection: sqlite3.Connection, event: Place, fate: Fate) -> Fate:
    """Return the fate with its dead letter, and what was done about that."""
    row = connection.execute(
        "SELECT partition, offset, origin, number FROM letters WHERE partition = ?"
        " AND event_offset = ? AND destination = ? ORDER BY offset DESC LIMIT 1",
        (*event, fate.destination),
    ).fetchone()
    if row is None:
        return fate
    subject = Subject(fate.destination, row["origin"], row["number"])
    handling = _handling(connection, event.partition, subject)
    return replace(fate, letter=Place(row["partition"], row["offset"]), handling=handling)


def _steps(connection: sqlite3.Connection, place: Place) -> tuple[tuple[Step, ...], int]:
    [(number,)] = connection.execute(
        "SELECT count(*) FROM steps WHERE partition = ? AND offset = ?", place
    ).fetchall()
    last = _select_steps(connection, place, "ORDER BY s.at DESC", limit=STEPS)[::-1]
    return tuple(last), number - len(last)


def _select_steps(
    connection: sqlite3.Connection, place: Place, rest: str, *values: str, limit: int = 1
) -> list[Step]:
    rows = connection.execute(
        "SELECT s.*, e.endpoint, e.status, e.text FROM steps s"  # noqa: S608 - a literal
        " LEFT JOIN entries e ON e.partition = s.partition AND e.at = s.at"
        f" WHERE s.partition = ? AND s.offset = ? {rest} LIMIT ?",
        (*place, *values, limit),
    )
    return [
        Step(
            kind=row["kind"],
            destination=row["destination"],
            at=row["at"],
            time_ms=row["made_ms"],
            endpoint=row["endpoint"],
            status=row["status"],
            text=row["text"] or "",
            outcome=Outcome(row["outcome"]) if row["outcome"] else None,
            reason=_reason(row["reason"]),
            detail=row["detail"],
            next_ms=row["next_ms"],
        )
        for row in rows
    ]


def _reason(value: str | None) -> Reason | None:
    return Reason(value) if value else None


_HANDLED = (
    "EXISTS (SELECT 1 FROM decisions d WHERE d.partition = letters.partition"
    " AND d.destination = letters.destination AND d.origin = letters.origin"
    " AND d.number = letters.number AND d.deed"
)


def _asked(filters: LetterFilters) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Yield what is asked of a letter, and the values for it."""
    for column in ("destination", "site", "reason", "type"):
        wanted = getattr(filters, column)
        if wanted is not None:
            yield f"{column} = ?", (wanted,)
    if filters.since_ms is not None:
        yield "time_ms >= ?", (filters.since_ms,)
    if filters.until_ms is not None:
        yield "time_ms < ?", (filters.until_ms,)
    if filters.state == OPEN:
        yield f"NOT {_HANDLED} != ?)", (Deed.ASKED,)
    elif filters.state is not None:
        yield f"{_HANDLED} = ?)", (filters.state,)


def _letters(
    connection: sqlite3.Connection, filters: LetterFilters, cursor: str | None, limit: int
) -> Page:
    asked = [
        ("(time_ms, partition, offset) < (?, ?, ?)", _after(connection, cursor)),
        *_asked(filters),
    ]
    conditions = " AND ".join(condition for condition, _ in asked)
    rows = connection.execute(
        f"SELECT * FROM letters WHERE {conditions}"  # noqa: S608 - values are bound
        " ORDER BY time_ms DESC, partition DESC, offset DESC LIMIT ?",
        (*(value for _, values in asked for value in values), limit + 1),
    ).fetchall()
    more = None
    if len(rows) > limit:
        rows = rows[:limit]
        last = rows[-1]
        more = _cursor(connection, last["time_ms"], last["partition"], last["offset"])
    return Page(letters=tuple(_read_letter(connection, row) for row in rows), cursor=more)


def _letter(connection: sqlite3.Connection, place: Place) -> Letter | None:
    row = connection.execute(
        "SELECT * FROM letters WHERE partition = ? AND offset = ?", place
    ).fetchone()
    return _read_letter(connection, row) if row else None


def _handling(connection: sqlite3.Connection, partition: int, subject: Subject) -> Handling | None:
    row = connection.execute(
        "SELECT deed, made_ms, became FROM decisions"
        " WHERE partition = ? AND destination = ? AND origin = ? AND number = ?",
        (partition, *subject),
    ).fetchone()
    if row is None:
        return None
    became = None if row["became"] is None else Place(partition, row["became"])
    return Handling(Deed(row["deed"]), row["made_ms"], became)


def _find_letters(connection: sqlite3.Connection, value: str, limit: int) -> list[Letter]:
    rows = connection.execute(
        "SELECT l.* FROM letter_ids i JOIN letters l USING (partition, offset) WHERE i.value = ?"
        " ORDER BY i.time_ms DESC, i.partition DESC, i.offset DESC LIMIT ?",
        (value, limit),
    )
    return [_read_letter(connection, row) for row in rows]


def _read_letter(connection: sqlite3.Connection, row: sqlite3.Row) -> Letter:
    subject = Subject(row["destination"], row["origin"], row["number"])
    return Letter(
        Place(row["partition"], row["offset"]),
        row["time_ms"],
        dead.decode_letter(row["record"]),
        row["id"],
        row["type"],
        _handling(connection, row["partition"], subject),
    )


def _was_let_in(entry: Answer) -> bool:
    """Whether the destination looked at an event, so that neither key nor address is wrong."""
    by_answer = {done.reason for done in entry.settled if done.outcome is not Outcome.SUPERSEDED}
    by_answer |= {each.reason for each in entry.postponed}
    return bool(by_answer - WHOLE - _WITHOUT_ANSWER)


_WITHOUT_ANSWER = frozenset({Reason.UNKNOWN, Reason.EXPIRED, Reason.FAILED_ALONE})


def _standings(connection: sqlite3.Connection, now_ms: int) -> list[Standing]:
    hour: dict[str, dict[str, int]] = {}
    for name, outcome, number in connection.execute(
        "SELECT destination, outcome, sum(number) FROM tallies WHERE minute > ? GROUP BY 1, 2",
        (now_ms // _MINUTE_MS - 60,),
    ):
        hour.setdefault(name, {})[outcome] = number
    waiting = {
        name: (number, oldest)
        for name, number, oldest in connection.execute(
            "SELECT destination, count(*), min(time_ms) FROM waiting GROUP BY 1"
        )
    }
    heard: dict[str, list[sqlite3.Row]] = {}
    for row in connection.execute("SELECT * FROM heard"):
        heard.setdefault(row["destination"], []).append(row)
    troubles = {
        row["destination"]: Trouble(*tuple(row)[1:])
        for row in connection.execute("SELECT * FROM troubles")
    }
    return [
        Standing(
            name,
            hour.get(name, {}),
            *waiting.get(name, (0, None)),
            max((row["made_ms"] for row in heard.get(name, ())), default=None),
            troubles.get(name),
            _behind(connection, heard.get(name, ())),
            tuple(_pauses(connection, name)),
        )
        for name in sorted({*hour, *waiting, *heard, *troubles})
    ]


def _pauses(connection: sqlite3.Connection, destination: str) -> Iterator[Paused]:
    for row in connection.execute(
        "SELECT endpoint, made_ms, detail FROM pauses WHERE destination = ?", (destination,)
    ):
        yield Paused(*row)


def _behind(connection: sqlite3.Connection, rows: Rows) -> tuple[Place, ...]:
    """Return, per partition, the oldest record that the destination last called open or unread."""
    places = [_oldest_open(connection, row) for row in rows if row["next"] is not None]
    return tuple(place for place in places if place)


def _oldest_open(connection: sqlite3.Connection, row: sqlite3.Row) -> Place | None:
    destination, partition, following = row["destination"], row["partition"], row["next"]
    for offset in sorted(orjson.loads(row["open"])):
        settled = connection.execute(
            "SELECT 1 FROM outcomes WHERE partition = ? AND offset = ? AND destination = ?",
            (partition, offset, destination),
        ).fetchone()
        if not settled:
            return Place(partition, offset)
    beyond = connection.execute(
        "SELECT 1 FROM steps WHERE partition = ? AND offset >= ? AND destination = ? LIMIT 1",
        (partition, following, destination),
    ).fetchone()
    return None if beyond else Place(partition, following)
