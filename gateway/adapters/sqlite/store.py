"""The file: its format, its one writing connection, and what may be removed from it.

Everything here blocks, and is called from one thread. A write is one transaction; with
`synchronous=FULL` in WAL mode its COMMIT returns after one fsync (infrastructure.md 3).
"""

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from gateway.adapters.sqlite.segment import pack
from gateway.adapters.sqlite.settings import SqliteSettings
from gateway.model.retention import (
    Limits,
    Place,
    dead_letter_may_go,
    event_may_go,
    outcome_may_go,
)
from gateway.ports import (
    BufferUnavailableError,
    BufferUnusableError,
    Log,
    Position,
    Span,
)

APPLICATION_ID = 0x67617465
"""SQLite's own mark of whose file it is: "gate"."""
FORMAT = 1
BUSY_SECONDS = 5.0
"""How long a write waits while somebody else, a backup say, has the file locked."""
SEGMENTED = (Log.EVENTS, Log.OUTCOMES, Log.DEAD)
STEP_ROWS = 64
STEP_BYTES = 1 << 20
STEP_SHARE = 1 / 32
"""What one removal takes at most, also of `max_bytes` (it goes through the WAL), so that a publish
never waits long behind it. At least one row."""

_Rule = Callable[[int, int], bool]
"""Of a segment's last offset and its time: whether it may go."""

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE events (first INTEGER PRIMARY KEY, count INTEGER, time_ms INTEGER, data BLOB);
CREATE TABLE outcomes (first INTEGER PRIMARY KEY, count INTEGER, time_ms INTEGER, data BLOB);
CREATE TABLE dead (first INTEGER PRIMARY KEY, count INTEGER, time_ms INTEGER, data BLOB);
CREATE TABLE state (key BLOB PRIMARY KEY, first INTEGER UNIQUE, time_ms INTEGER, data BLOB);
CREATE TABLE positions (destination TEXT PRIMARY KEY, first INTEGER, outcomes_first INTEGER);
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
COMMIT;
"""


@dataclass(slots=True)
class Writing:
    """What goes into one transaction."""

    now_ms: int
    values: dict[Log, list[bytes]] = field(default_factory=dict)
    keys: list[bytes] = field(default_factory=list)
    """Of the records of `state`."""
    positions: dict[str, Position] = field(default_factory=dict)


class Ends(NamedTuple):
    """What the file holds, as of its last transaction."""

    spans: Mapping[Log, Span]
    time_ms: int
    """The log's clock: no later record has a lower time."""


class Store:
    """The writing connection. After any error it is closed; the next call opens it again."""

    def __init__(self, settings: SqliteSettings) -> None:
        self.used_bytes = 0
        """What the log takes on the disk, as of the last transaction; removed pages are free."""
        self._settings = settings
        self._connection: sqlite3.Connection | None = None
        self._spans: dict[Log, Span] = {}
        self._time_ms = 0

    def open(self) -> Ends:
        """Open or make the file. Raises BufferUnusableError, BufferUnavailableError."""
        with self._guarded():
            self._open()
            return self._ends()

    def close(self) -> None:
        """Close; SQLite then moves the WAL into the file."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(sqlite3.Error):
                connection.close()

    def write(self, writing: Writing) -> Ends:
        """Write it all and return once it is durable. Raises BufferUnavailableError.

        The new records of a log end at its span's `next`, and have the `time_ms` returned.
        """
        with self._guarded():
            connection = self._connection or self._open()
            time_ms = max(self._time_ms, writing.now_ms)
            connection.execute("BEGIN IMMEDIATE")
            for log, values in writing.values.items():
                if log is Log.STATE:
                    self._insert_state(connection, values, writing.keys, time_ms)
                else:
                    row = (self._spans[log].next, len(values), time_ms, pack(values))
                    connection.execute(f"INSERT OR REPLACE INTO {log} VALUES (?,?,?,?)", row)  # noqa: S608 - a closed enum
            connection.executemany(
                "INSERT OR REPLACE INTO positions VALUES (?,?,?)",
                [(name, *position) for name, position in writing.positions.items()],
            )
            connection.execute("COMMIT")
            self._time_ms = time_ms
            for log, values in writing.values.items():
                first, end = self._spans[log]
                self._spans[log] = Span(first, end + len(values))
            self._measure(connection)
            return self._ends()

    def remove(self, destinations: Sequence[str], limits: Limits) -> tuple[bool, Ends]:
        """Remove a little of what may go; also return whether there may be more.

        Raises BufferUnavailableError.
        """
        with self._guarded():
            connection = self._connection or self._open()
            self._time_ms = max(self._time_ms, limits.now_ms)  # see _places
            step_bytes = min(STEP_BYTES, int(self._settings.max_bytes * STEP_SHARE))
            cuts = _cuts(
                connection, self._spans, _rules(connection, destinations, limits), step_bytes
            )
            if cuts:
                connection.execute("BEGIN IMMEDIATE")
                for log, first in cuts.items():
                    self._cut(connection, log, first)
                connection.execute("COMMIT")
                for log, first in cuts.items():
                    self._spans[log] = Span(first, self._spans[log].next)
            self._measure(connection)
            return bool(cuts), self._ends()

    def _insert_state(
        self,
        connection: sqlite3.Connection,
        values: Sequence[bytes],
        keys: Sequence[bytes],
        time_ms: int,
    ) -> None:
        rows = zip(keys, range(self._spans[Log.STATE].next, 1 << 62), values, strict=False)
        connection.executemany(
            "INSERT OR REPLACE INTO state VALUES (?,?,?,?)",
            [(key, offset, time_ms, value) for key, offset, value in rows],
        )
        gone = [(key,) for key, value in zip(keys, values, strict=False) if not value]
        connection.executemany("DELETE FROM state WHERE key = ? AND data = x''", gone)

    def _cut(self, connection: sqlite3.Connection, log: Log, first: int) -> None:
        """Delete what is below `first`; an empty log keeps an empty row, to know its place."""
        connection.execute(f"DELETE FROM {log} WHERE first < ?", (first,))  # noqa: S608 - a closed enum
        if first == self._spans[log].next:
            row = (first, 0, self._time_ms, b"")
            connection.execute(f"INSERT OR REPLACE INTO {log} VALUES (?,?,?,?)", row)  # noqa: S608 - a closed enum

    def _ends(self) -> Ends:
        return Ends(dict(self._spans), self._time_ms)

    def _measure(self, connection: sqlite3.Connection) -> None:
        pages = _number(connection, "PRAGMA page_count")
        free = _number(connection, "PRAGMA freelist_count")
        size = (pages - free) * _number(connection, "PRAGMA page_size")
        with suppress(FileNotFoundError):
            size += Path(f"{self._settings.path}-wal").stat().st_size
        self.used_bytes = size

    def _open(self) -> sqlite3.Connection:
        path = self._settings.path
        mode = "rw" if self._spans else "rwc"  # a file that is lost is not quietly made anew
        try:
            connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={mode}",
                uri=True,
                timeout=BUSY_SECONDS,
                isolation_level=None,
                check_same_thread=False,
            )
        except sqlite3.OperationalError as error:
            raise BufferUnavailableError(
                f"cannot open {path} ({error}): its folder must exist and be writable"
            ) from error
        self._connection = connection
        try:
            self._prepare(connection)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_NOTADB:
                raise _unusable(path, "it is no SQLite database") from error
            raise
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        mark = _number(connection, "PRAGMA application_id")
        version = _number(connection, "PRAGMA user_version")
        empty = not _number(connection, "SELECT count(*) FROM sqlite_schema")
        if not empty and mark != APPLICATION_ID:
            raise _unusable(self._settings.path, "it is another program's database")
        if not empty and version != FORMAT:
            raise _unusable(
                self._settings.path, f"it has format {version}; this version reads {FORMAT}"
            )
        page_bytes = _number(connection, "PRAGMA page_size")
        wal_pages = max(16, min(1000, self._settings.max_bytes // 16 // page_bytes))
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")  # what is removed is erased
        connection.execute(f"PRAGMA wal_autocheckpoint = {wal_pages}")
        connection.execute(f"PRAGMA journal_size_limit = {wal_pages * page_bytes}")
        if empty:
            connection.executescript(_SCHEMA)
            _sync_folder(self._settings.path)
        self._read_ends(connection)
        self._measure(connection)

    def _read_ends(self, connection: sqlite3.Connection) -> None:
        for log in SEGMENTED:
            row = connection.execute(
                f"SELECT coalesce(min(first), 0), coalesce(max(first + count), 0) FROM {log}"  # noqa: S608 - a closed enum
            ).fetchone()
            self._spans[log] = Span(*row)
        newest = _number(connection, "SELECT coalesce(max(first), -1) FROM state")
        self._spans[Log.STATE] = Span(0, newest + 1)
        for log in Log:
            time_ms = f"SELECT time_ms FROM {log} ORDER BY first DESC LIMIT 1"  # noqa: S608 - a closed enum
            latest = connection.execute(time_ms).fetchone() or (0,)
            self._time_ms = max(self._time_ms, latest[0])

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Translate errors; after one begin anew with a fresh connection: what is written shows."""
        try:
            yield
        except sqlite3.Error as error:
            self.close()
            raise BufferUnavailableError(f"{self._settings.path}: {error}") from error
        except BaseException:
            self.close()
            raise


def _rules(
    connection: sqlite3.Connection, destinations: Sequence[str], limits: Limits
) -> dict[Log, _Rule]:
    """Return for each log what may go from it, as of now."""
    positions = [_position(connection, name) for name in destinations]
    places = [position and _place(connection, position, limits) for position in positions]
    needed = [position and position.outcomes_offset for position in positions]
    oldest = connection.execute(
        "SELECT time_ms FROM events WHERE count > 0 ORDER BY first LIMIT 1"
    ).fetchone()
    oldest_ms = oldest and oldest[0]
    return {
        Log.EVENTS: lambda last, ms: event_may_go(last, ms, places, limits),
        Log.OUTCOMES: lambda last, ms: outcome_may_go(last, ms, needed, oldest_ms, limits),
        Log.DEAD: lambda _, ms: dead_letter_may_go(ms, limits.now_ms),
    }


def _cuts(
    connection: sqlite3.Connection,
    spans: Mapping[Log, Span],
    rules: Mapping[Log, _Rule],
    step_bytes: int,
) -> dict[Log, int]:
    """Return for each log that loses records its new first offset.

    Segments go whole, when their last record may.
    """
    cuts = {}
    for log, goes in rules.items():
        cut, size = spans[log].first, 0
        for first, count, time_ms, length in _oldest_rows(connection, log):
            if (
                first == spans[log].next
                or size > step_bytes
                or not goes(first + count - 1, time_ms)
            ):
                break
            cut = first + count
            size += length
        if cut > spans[log].first:
            cuts[log] = cut
    return cuts


def _oldest_rows(connection: sqlite3.Connection, log: Log) -> Sequence[tuple[int, int, int, int]]:
    return connection.execute(
        f"SELECT first, count, time_ms, length(data) FROM {log} ORDER BY first LIMIT {STEP_ROWS}"  # noqa: S608 - a closed enum
    ).fetchall()


def _position(connection: sqlite3.Connection, destination: str) -> Position | None:
    row = connection.execute(
        "SELECT first, outcomes_first FROM positions WHERE destination = ?", (destination,)
    ).fetchone()
    return Position(*row) if row else None


def _place(connection: sqlite3.Connection, position: Position, limits: Limits) -> Place:
    """Return the place with its time.

    At the end of the log that is now: `remove` sees to it that no later record gets less. Before
    its beginning it is the oldest record's, where the destination will go on.
    """
    end, time_ms = connection.execute(
        "SELECT first + count, time_ms FROM events WHERE first <= max(?, (SELECT min(first)"
        " FROM events)) ORDER BY first DESC LIMIT 1",
        (position.offset,),
    ).fetchone() or (0, 0)
    return Place(position.offset, time_ms if position.offset < end else limits.now_ms)


def _number(connection: sqlite3.Connection, query: str) -> int:
    return int(connection.execute(query).fetchone()[0])


def _unusable(path: Path, why: str) -> BufferUnusableError:
    return BufferUnusableError(f"{path} is no log of this gateway: {why}; move it away")


def _sync_folder(path: Path) -> None:
    """Make the new file's name, and its folder's, outlive a power cut."""
    for folder in (path.absolute().parent, path.absolute().parent.parent):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
