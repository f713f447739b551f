"""Answers about events from the index: by id, as pages, what changed."""

import sqlite3
from dataclasses import replace
from typing import Any

from gateway.adapters.index import cursors, file, letters
from gateway.model.dead import Subject
from gateway.model.life import Fate, Filters, Known, Place, Step, parse_place
from gateway.model.outcome import Outcome, Reason
from gateway.ports import Page

STEPS = 200
"""Steps of one event that are shown; of more, the last ones."""


def find(connection: sqlite3.Connection, value: str, limit: int) -> list[Known]:
    """Return the events that bear an id or stand at that place, newest first, with their steps."""
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


def page(connection: sqlite3.Connection, filters: Filters, cursor: str | None, limit: int) -> Page:
    """Return events newest first; with an outcome asked for, by the time of the outcome."""
    drive, where, values = _drive(filters)
    for column in ("site", "type"):
        wanted = getattr(filters, column)
        if wanted is not None:
            where.append(f"e.{column} = ?")
            values.append(wanted)
    after = cursors.after(connection, cursor)
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
        more = cursors.cursor_of(connection, last["order_ms"], last["partition"], last["offset"])
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


def changes(connection: sqlite3.Connection, cursor: str | None, limit: int) -> Page:
    """Return what changed since the cursor, oldest change first; without a good one the newest."""
    era, _, number = (cursor or "").partition(".")
    if era == file.get_meta(connection, "era") and number.isdecimal():
        rows = connection.execute(
            "SELECT * FROM events WHERE change > ? ORDER BY change LIMIT ?", (int(number), limit)
        ).fetchall()
        last = rows[-1]["change"] if rows else int(number)
    else:
        rows = connection.execute(
            "SELECT * FROM events ORDER BY time_ms DESC, partition DESC, offset DESC LIMIT ?",
            (limit,),
        ).fetchall()[::-1]
        last = file.get_meta(connection, "change")
    return Page(
        events=tuple(_known(connection, row) for row in rows),
        cursor=cursors.cursor_of(connection, last),
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
    handling = letters.handling(connection, event.partition, subject)
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
