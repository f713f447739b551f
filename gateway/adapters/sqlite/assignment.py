"""The one partition of the embedded log, owned for one destination."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from gateway.adapters.sqlite.segment import PARTITION
from gateway.ports import Assignment, Log, Position, Record


class Owner(Protocol):
    """What an assignment asks of its buffer."""

    async def read(self, log: Log, partition: int, offset: int, limit: int) -> list[Record]:
        """Return records."""

    async def committed(self, destination: str) -> Position | None:
        """Return the last commit."""

    async def commit(self, assignment: "SqliteAssignment", position: Position) -> None:
        """Write a position. Raises AssignmentLostError."""

    async def confirm(self, assignment: "SqliteAssignment") -> None:
        """Raise AssignmentLostError unless the assignment goes on."""

    async def wait_beyond(self, offset: int, ending: asyncio.Event, wait_seconds: float) -> None:
        """Wait for a record at that offset, or for `ending`."""

    def wake(self) -> None:
        """Let who waits look again."""


class SqliteAssignment:
    """The `Assignment` port."""

    def __init__(self, owner: Owner, destination: str) -> None:
        self.destination = destination
        self.lost = False
        """Its `consume` is over: what still runs of it may not commit."""
        self.finished = asyncio.Event()
        self._owner = owner
        self._ending = asyncio.Event()

    @property
    def partition(self) -> int:
        """The only one."""
        return PARTITION

    @property
    def ending(self) -> asyncio.Event:
        """Set when it is to be handed over."""
        return self._ending

    async def committed(self) -> Position | None:
        """Return the last commit, or None when there is none."""
        return await self._owner.committed(self.destination)

    async def read(self, offset: int, limit: int, wait_seconds: float) -> list[Record]:
        """See the port. Comes back early, and empty, when `ending` is set while it waits."""
        found = await self._owner.read(Log.EVENTS, PARTITION, offset, limit)
        if found or wait_seconds <= 0:
            return found
        await self._owner.wait_beyond(offset, self._ending, wait_seconds)
        return await self._owner.read(Log.EVENTS, PARTITION, offset, limit)

    async def commit(self, position: Position) -> None:
        """See the port."""
        await self._owner.commit(self, position)

    async def confirm(self) -> None:
        """See the port: this process still holds the lock."""
        await self._owner.confirm(self)

    def end(self) -> None:
        """Set `ending`, once."""
        if not self._ending.is_set():
            self._ending.set()
            self._owner.wake()


async def carry(
    own: Callable[[Assignment], Awaitable[None]],
    assignment: SqliteAssignment,
    ending: asyncio.Event,
) -> None:
    """Run `own` until it has ended and `ending` is set. Cancelled, it cancels `own`: a crash."""
    work = asyncio.ensure_future(own(assignment))
    ended = asyncio.ensure_future(ending.wait())
    try:
        await asyncio.wait({work, ended}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            assignment.end()
            await asyncio.wait({work})
        work.result()
        await ended
    finally:
        assignment.lost = True
        assignment.end()
        work.cancel()
        ended.cancel()
        await asyncio.gather(work, ended, return_exceptions=True)


async def either(one: asyncio.Event, other: asyncio.Event) -> None:
    """Wait for one of two."""
    waits = [asyncio.ensure_future(each.wait()) for each in (one, other)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
