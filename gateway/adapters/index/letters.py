"""Answers about dead letters from the index, and what was done about them."""

import sqlite3
from collections.abc import Iterator
from typing import Any

from gateway.adapters.index import cursors
from gateway.model import dead
from gateway.model.dead import Deed, Subject
from gateway.model.life import OPEN, Handling, Letter, LetterFilters, Place
from gateway.ports import Page

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


def page(
    connection: sqlite3.Connection, filters: LetterFilters, cursor: str | None, limit: int
) -> Page:
    """Return dead letters newest first."""
    asked = [
        ("(time_ms, partition, offset) < (?, ?, ?)", cursors.after(connection, cursor)),
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
        more = cursors.cursor_of(connection, last["time_ms"], last["partition"], last["offset"])
    return Page(letters=tuple(_read_letter(connection, row) for row in rows), cursor=more)


def letter(connection: sqlite3.Connection, place: Place) -> Letter | None:
    """Return a dead letter by its place."""
    row = connection.execute(
        "SELECT * FROM letters WHERE partition = ? AND offset = ?", place
    ).fetchone()
    return _read_letter(connection, row) if row else None


def handling(connection: sqlite3.Connection, partition: int, subject: Subject) -> Handling | None:
    """Return what was done about a dead letter, also where the letter is held no more."""
    row = connection.execute(
        "SELECT deed, made_ms, became FROM decisions"
        " WHERE partition = ? AND destination = ? AND origin = ? AND number = ?",
        (partition, *subject),
    ).fetchone()
    if row is None:
        return None
    became = None if row["became"] is None else Place(partition, row["became"])
    return Handling(Deed(row["deed"]), row["made_ms"], became)


def find(connection: sqlite3.Connection, value: str, limit: int) -> list[Letter]:
    """Return the dead letters that bear an id, newest first."""
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
        handling(connection, row["partition"], subject),
    )
