"""Makes room in the index, and erases what the logs hold no more."""

import sqlite3

from gateway.adapters.index import file

_FILL = 0.9
"""Above this share of `index_bytes` the oldest are removed, down to `_AFTER`."""
_AFTER = 0.8
_DEAD_SHARE = 0.25
_BY_TIME = ("events", "ids", "outcomes", "waiting", "entries", "steps")


def keep_to(connection: sqlite3.Connection, index_bytes: int) -> None:
    """Remove the oldest if the file is nearly as large as it may be."""
    if _used_bytes(connection) <= index_bytes * _FILL:
        return
    _keep_letters_to(connection, round(index_bytes * _DEAD_SHARE))
    while _used_bytes(connection) > index_bytes * _AFTER:
        cutoff_ms = _oldest_eighth_ms(connection)
        if cutoff_ms is None:
            return
        with file.transaction(connection):
            _remove_events(connection, cutoff_ms + 1)


def forget(connection: sqlite3.Connection, events_ms: int, letters_ms: int) -> None:
    """Erase events, and dead letters, from before these times."""
    with file.transaction(connection):
        if _holds_older(connection, events_ms):  # else it reaches as far as it did
            _remove_events(connection, events_ms)
        _remove_letters(connection, letters_ms)


def _holds_older(connection: sqlite3.Connection, than_ms: int) -> bool:
    queries = (f"SELECT 1 FROM {table} WHERE time_ms < ? LIMIT 1" for table in _BY_TIME)  # noqa: S608 - our own names
    return any(connection.execute(query, (than_ms,)).fetchone() for query in queries)


def _remove_events(connection: sqlite3.Connection, before_ms: int) -> None:
    for table in _BY_TIME:
        connection.execute(
            f"DELETE FROM {table} WHERE time_ms < ?",  # noqa: S608 - our own names
            (before_ms,),
        )
    connection.execute("DELETE FROM tallies WHERE minute < ?", (before_ms // file.MINUTE_MS,))
    file.set_meta(connection, "reach_ms", max(before_ms, file.reach_ms(connection)))


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
        with file.transaction(connection):
            _remove_letters(connection, row[0] + 1)
