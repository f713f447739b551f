"""Commits of one generation of a member: those that come while one is in flight go together."""

import asyncio
from asyncio import Future

from gateway.adapters.kafka.requests import Membership, Place, Requests
from gateway.ports import AssignmentLostError, BufferFailedError, Position

_MARK = "outcomes="
_NOTHING_YET = Place(0, "nothing yet")
"""What is committed to confirm an assignment before its first position: read as no commit."""


def place_of(position: Position | None) -> Place:
    """Return what is committed for a position; its second half goes into the metadata."""
    if position is None:
        return _NOTHING_YET
    return Place(position.offset, f"{_MARK}{position.outcomes_offset}")


def position_of(place: Place | None) -> Position | None:
    """Return a committed position; None where there is none, or another program's."""
    if place is None or not place.metadata.startswith(_MARK):
        return None
    number = place.metadata.removeprefix(_MARK)
    return Position(place.offset, int(number)) if number.isascii() and number.isdigit() else None


class Commits:
    """What one generation of a member commits. The broker refuses it when that is over.

    So nothing of a lost assignment is committed, whatever this process believes (rule 4).
    """

    def __init__(self, requests: Requests, by: Membership, topic: str) -> None:
        self.lost = False
        """Refused once: nothing is sent any more."""
        self._requests = requests
        self._by = by
        self._topic = topic
        self._positions: dict[int, Position | None] = {}
        self._asked: set[int] = set()
        self._waiting: list[Future[None]] = []
        self._task: asyncio.Task[None] | None = None

    async def committed(self, partition: int) -> Position | None:
        """Return a partition's last commit."""
        return position_of(await self._requests.committed(self._by.group, self._topic, partition))

    async def commit(self, partition: int, position: Position) -> None:
        """Commit a position. Raises AssignmentLostError, BufferUnavailableError."""
        self._positions[partition] = position
        await self._sent(partition)

    async def confirm(self, partition: int) -> None:
        """Commit the position as it is; before the first one, that there is nothing yet."""
        if partition not in self._positions:
            found = await self.committed(partition)
            self._positions.setdefault(partition, found)
        await self._sent(partition)

    async def _sent(self, partition: int) -> None:
        if self.lost:
            raise lost()
        self._asked.add(partition)
        future: Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        if self._task is None:
            self._task = asyncio.create_task(self._send_all())
        await future

    async def _send_all(self) -> None:
        try:
            while self._waiting:
                await self._send()
        finally:
            self._task = None

    async def _send(self) -> None:
        waiting, self._waiting = self._waiting, []
        asked, self._asked = self._asked, set()
        places = {each: place_of(self._positions[each]) for each in asked}
        failed: BufferFailedError | None = None
        try:
            if self.lost:
                raise lost()
            await self._requests.commit(self._by, self._topic, places)
        except AssignmentLostError as error:
            self.lost = True
            failed = error
        except BufferFailedError as error:
            failed = error
        for future in waiting:
            if future.done():
                continue
            if failed is None:
                future.set_result(None)
            else:
                future.set_exception(type(failed)(str(failed)))


def lost() -> AssignmentLostError:
    """Return the error for what is no longer owned."""
    return AssignmentLostError("the partition is no longer this member's")
