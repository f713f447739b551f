"""The ledger's index in SQLite: a file beside the buffer, a cache.

Whatever is wrong with the file at start (lost, broken, of another version, made for other routes)
it is made anew, and the ledger reads the logs again. A file that does not say that it is an index
is never touched: it may be the log itself. One thread writes, another one answers.
"""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Concatenate, TypeVar

from gateway.adapters.index import events, file, letters, room, standings, write
from gateway.model.dead import Subject
from gateway.model.life import (
    Fact,
    Filters,
    Handling,
    Known,
    Letter,
    LetterFilters,
    Place,
    Standing,
)
from gateway.ports import IndexFailedError, Log, Mark, Page

T = TypeVar("T")

ANSWER_SECONDS = 10.0
"""A question that takes longer is given up: somebody waits for it."""


class SqliteIndex:
    """The `Index` port. Needs `start` before anything else."""

    def __init__(self, path: str, index_bytes: int) -> None:
        self._path = Path(path)
        self._bytes = index_bytes
        self._writer = _Worker("index-writer", self._path)
        self._reader = _Worker("index-reader", self._path)

    async def start(self, routes: str, since_ms: int) -> Mapping[tuple[Log, int], Mark]:
        """Open the file, or make it anew. Raises IndexFailedError when it can't be made."""
        made_for = f"{file.VERSION} {routes}"
        marks = await self._writer.open(
            lambda: file.open_writer(self._path, made_for, since_ms), file.marks
        )
        await self._reader.open(lambda: file.open_reader(self._path), lambda _: None)
        return marks

    async def stop(self) -> None:
        """Close both connections."""
        await self._reader.close()
        await self._writer.close()

    async def clear(self, since_ms: int) -> None:
        """Forget everything."""
        await self._writer.run(file.clear, since_ms)

    async def put(self, log: Log, partition: int, mark: Mark, facts: Sequence[Fact]) -> None:
        """Take in records and their mark in one transaction, then keep to the size."""
        await self._writer.run(write.put, (log, partition, mark), facts)
        await self._writer.run(room.keep_to, self._bytes)

    async def forget(self, events_ms: int, letters_ms: int) -> None:
        """Erase events, and dead letters, from before these times."""
        await self._writer.run(room.forget, events_ms, letters_ms)

    async def reach_ms(self) -> int:
        """Return since when everything is held."""
        return await self._reader.run(_read, file.reach_ms)

    async def find(self, value: str, limit: int) -> list[Known]:
        """Return the events that bear an id or stand at that place, newest first."""
        return await self._reader.run(_read, events.find, value, limit)

    async def events(self, filters: Filters, cursor: str | None, limit: int) -> Page:
        """Return a page of events: by the log's time, or for an outcome by the outcome's."""
        return await self._reader.run(_read, events.page, filters, cursor, limit)

    async def changes(self, cursor: str | None, limit: int) -> Page:
        """Return what changed since."""
        return await self._reader.run(_read, events.changes, cursor, limit)

    async def letters(self, filters: LetterFilters, cursor: str | None, limit: int) -> Page:
        """Return a page of dead letters."""
        return await self._reader.run(_read, letters.page, filters, cursor, limit)

    async def letter(self, place: Place) -> Letter | None:
        """Return one dead letter."""
        return await self._reader.run(_read, letters.letter, place)

    async def handling(self, partition: int, subject: Subject) -> Handling | None:
        """Return what was done about a dead letter."""
        return await self._reader.run(_read, letters.handling, partition, subject)

    async def find_letters(self, value: str, limit: int) -> list[Letter]:
        """Return the dead letters that bear an id."""
        return await self._reader.run(_read, letters.find, value, limit)

    async def standings(self, now_ms: int) -> list[Standing]:
        """Return how each destination does."""
        return await self._reader.run(_read, standings.standings, now_ms)


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
