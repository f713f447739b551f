"""The index's file: opened if it is of use, else made anew. Runs in one of the index's threads.

Times in the columns `time_ms` are the log's, `made_ms` the writer's own.
"""

import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from gateway.ports import IndexFailedError, Log, Mark

MINUTE_MS = 60_000
VERSION = "2"
APPLICATION_ID = 0x67617469
"""Marks the file as an index (SQLite's `application_id`); the embedded log's mark is another."""
_MARK_AT = 68
_MARK = b"SQLite format 3\0", APPLICATION_ID.to_bytes(4, "big")
"""How the file begins, and what stands at `_MARK_AT` (sqlite.org/fileformat2.html, 1.3)."""
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


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=30)
    connection.row_factory = sqlite3.Row
    return connection


def open_writer(path: Path, made_for: str, since_ms: int) -> sqlite3.Connection:
    """Open the file, or make it anew. Raises IndexFailedError if it is something else."""
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
        set_meta(connection, "made_for", made_for)
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
        if get_meta(connection, "made_for") == made_for and _sound(connection):
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


def open_reader(path: Path) -> sqlite3.Connection:
    """Open the file that the writer has made."""
    connection = _connect(path)
    connection.execute("PRAGMA query_only=ON")
    return connection


def _begin(connection: sqlite3.Connection, since_ms: int) -> None:
    # Cursors name the era, so that one from before is not taken for one of now.
    for name, value in (("era", secrets.token_hex(4)), ("change", 0), ("reach_ms", since_ms)):
        set_meta(connection, name, value)


def clear(connection: sqlite3.Connection, since_ms: int) -> None:
    """Forget everything, in a new era."""
    with transaction(connection):
        names = [
            row[0]
            for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        ]
        for name in names:
            if name != "meta":
                connection.execute(f"DELETE FROM {name}")  # noqa: S608 - our own schema's names
        _begin(connection, since_ms)


def get_meta(connection: sqlite3.Connection, name: str) -> Any:
    """Return what is kept under a name; None if nothing is."""
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return row[0] if row else None


def set_meta(connection: sqlite3.Connection, name: str, value: str | int) -> None:
    """Keep something under a name."""
    connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Do all that is inside, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def marks(connection: sqlite3.Connection) -> dict[tuple[Log, int], Mark]:
    """Return how far each partition of each log has been taken in."""
    rows = connection.execute("SELECT log, partition, next, time_ms FROM marks")
    return {
        (Log(log), partition): Mark(following, time) for log, partition, following, time in rows
    }


def reach_ms(connection: sqlite3.Connection) -> int:
    """Return since when everything that was read is held."""
    return int(get_meta(connection, "reach_ms"))
