"""Reading the file: read-only connections in a few threads, each query its own transaction.

A reader that stayed in a transaction would keep the WAL from being emptied (infrastructure.md 3).
"""

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import islice
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TypeVar

from gateway.adapters.sqlite.segment import PARTITION, records, unpack
from gateway.ports import BufferUnavailableError, Log, Position, Record, RecordsGoneError

THREADS = 2
BUSY_SECONDS = 5.0
READ_BYTES = 8 << 20
"""A read ends early beyond this, whatever its limit."""

Found = TypeVar("Found")
Query = Callable[[sqlite3.Connection], Found]


class Readers:
    """Runs queries. Each connection is used by one thread at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._threads = ThreadPoolExecutor(THREADS, "gateway-buffer-read")
        self._idle: SimpleQueue[sqlite3.Connection] = SimpleQueue()

    async def run(self, query: Query[Found]) -> Found:
        """Run it. Raises BufferUnavailableError, and what it raises itself."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, partial(self._run, query))

    def close(self) -> None:
        """Wait for what runs, then close the connections. Blocks."""
        self._threads.shutdown()
        with suppress(Empty):
            while True:
                self._idle.get_nowait().close()

    def _run(self, query: Query[Found]) -> Found:
        try:
            connection = self._connection()
        except sqlite3.Error as error:
            raise BufferUnavailableError(f"{self._path}: {error}") from error
        try:
            return query(connection)
        except (sqlite3.Error, ValueError) as error:
            raise BufferUnavailableError(f"{self._path}: {error}") from error
        finally:
            self._idle.put(connection)

    def _connection(self) -> sqlite3.Connection:
        with suppress(Empty):
            return self._idle.get_nowait()
        return sqlite3.connect(
            f"{self._path.absolute().as_uri()}?mode=ro",
            uri=True,
            timeout=BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )


def read_records(
    log: Log, offset: int, end: int, limit: int, connection: sqlite3.Connection
) -> list[Record]:
    """Return up to `limit` records from `offset` on, below `end`. Raises RecordsGoneError."""
    rows = connection.execute(
        f"SELECT first, count, time_ms, data FROM {log}"  # noqa: S608 - a closed enum
        f" WHERE first >= (SELECT max(first) FROM {log} WHERE first <= ?) AND first < ?"
        " ORDER BY first",
        (offset, end),
    )
    found: list[Record] = []
    size = 0
    for first, count, time_ms, blob in rows:
        skipped = max(0, offset - first)
        stop = min(count, skipped + limit - len(found))
        found += records(first + skipped, time_ms, unpack(count, blob)[skipped:stop])
        size += len(blob)
        if len(found) >= limit or size > READ_BYTES:
            break
    rows.close()
    if not found and offset < end:
        raise RecordsGoneError(_oldest(log, connection))
    return found


def _oldest(log: Log, connection: sqlite3.Connection) -> int:
    row = connection.execute(f"SELECT coalesce(min(first), 0) FROM {log}").fetchone()  # noqa: S608 - a closed enum
    return int(row[0])


def read_state(offset: int, limit: int, connection: sqlite3.Connection) -> list[Record]:
    """Return up to `limit` records of `state` from `offset` on, the last of each key."""
    rows = connection.execute(
        "SELECT first, time_ms, data, key FROM state WHERE first >= ? ORDER BY first LIMIT ?",
        (offset, limit),
    )
    return [Record(PARTITION, *row) for row in islice(rows, limit)]


def find_time(log: Log, end: int, time_ms: int, connection: sqlite3.Connection) -> int:
    """Return the first offset taken at `time_ms` or later, else `end`.

    By halving: times never fall, and an index would cost every write.
    """
    low, high = 0, end
    while low < high:
        middle = (low + high) // 2
        row = connection.execute(
            f"SELECT time_ms FROM {log} WHERE first >= ? ORDER BY first LIMIT 1",  # noqa: S608 - a closed enum
            (middle,),
        ).fetchone()
        if row is None or row[0] >= time_ms:
            high = middle
        else:
            low = middle + 1
    row = connection.execute(
        f"SELECT first FROM {log} WHERE first >= ? ORDER BY first LIMIT 1",  # noqa: S608 - a closed enum
        (low,),
    ).fetchone()
    return min(end, row[0]) if row else end


def read_position(destination: str, connection: sqlite3.Connection) -> Position | None:
    """Return a destination's last commit."""
    row = connection.execute(
        "SELECT first, outcomes_first FROM positions WHERE destination = ?", (destination,)
    ).fetchone()
    return Position(*row) if row else None
