"""Where a page goes on: a place in time, in one era of the index."""

import sqlite3

from gateway.adapters.index import file
from gateway.ports import Mark

_END = 1 << 62


def after(connection: sqlite3.Connection, cursor: str | None) -> tuple[int, int, int]:
    """Read a page's cursor; one from another era, or nonsense, begins with the newest."""
    era, *numbers = (cursor or "").split(".")
    if era == file.get_meta(connection, "era") and len(numbers) == len(Mark._fields) + 1:
        try:
            time_ms, partition, offset = map(int, numbers)
        except ValueError:
            return (_END, 0, 0)
        return time_ms, partition, offset
    return (_END, 0, 0)


def cursor_of(connection: sqlite3.Connection, *numbers: int) -> str:
    """Return the cursor of a place, or of a number of changes, in this era."""
    return ".".join([file.get_meta(connection, "era"), *map(str, numbers)])
