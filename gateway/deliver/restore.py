"""Where a destination goes on in a partition: from its commit, the outcome log, or its start."""

import logging
from dataclasses import dataclass

import orjson

from gateway.deliver import measure
from gateway.model.journal import UnreadableEntryError, decode
from gateway.model.recovery import Recovery
from gateway.model.routing import partition_of
from gateway.model.window import DedupSettings
from gateway.ports import (
    Assignment,
    Buffer,
    Clock,
    Draft,
    Log,
    Position,
    Record,
    RecordsGoneError,
)

PAGE = 1000
LOG = logging.getLogger("gateway.deliver")


@dataclass(slots=True, frozen=True)
class Place:
    """Where to go on."""

    recovery: Recovery
    read_from: int
    """The start of the window: read from here, judging only, until `recovery.high`."""
    resume_offset: int
    """The `outcomes_offset` that the commit has, or would have."""
    outcomes_next: int
    """The end of the outcome log when it was read."""


class Restore:
    """Finds the place; everything raises BufferUnavailableError."""

    def __init__(self, name: str, start: str, buffer: Buffer, dedup: DedupSettings) -> None:
        self._name = name
        self._start = start
        self._buffer = buffer
        self._dedup = dedup

    async def find(self, assignment: Assignment, clock: Clock) -> Place:
        """Return where to go on; writes to `state` where the destination begins, the first time."""
        partition = assignment.partition
        outcomes = await self._buffer.span(Log.OUTCOMES, partition)
        committed = await assignment.committed()
        if committed is None:
            began = await self._began(partition, clock)
            committed = Position(began, outcomes.first)
        position = await self._existing(partition, committed.offset)
        resume = max(committed.outcomes_offset, outcomes.first)
        recovery = await self._recover(partition, position, resume)
        read_from = await self._window_start(partition, position)
        return Place(recovery, read_from, resume, max(outcomes.next, resume))

    async def _began(self, partition: int, clock: Clock) -> int:
        """Return where the destination began, deciding it now if it is new."""
        key = f"start/{self._name}/{partition}".encode()
        home = partition_of(key.decode(), self._buffer.partitions)
        known = await self._state(home, key)
        if known is not None:
            return int(orjson.loads(known)["offset"])
        span = await self._buffer.span(Log.EVENTS, partition)
        offset = span.first if self._start == "beginning" else span.next
        value = orjson.dumps({"offset": offset, "time_ms": clock.now_ms()})
        await self._buffer.publish(Log.STATE, [Draft(home, value, key)])
        return offset

    async def _state(self, partition: int, key: bytes) -> bytes | None:
        """Return the last value of a key."""
        value = None
        offset = 0
        while page := await self._buffer.read(Log.STATE, partition, offset, PAGE):
            value = next((each.value for each in reversed(page) if each.key == key), value)
            offset = page[-1].offset + 1
        return value

    async def _existing(self, partition: int, offset: int) -> int:
        """Return the offset, or the oldest one left, having said how many records are missing."""
        first = (await self._buffer.span(Log.EVENTS, partition)).first
        if offset >= first:
            return offset
        missing = first - offset
        measure.missing(self._name, missing)
        LOG.error(
            "%s: %d records of partition %d were gone before delivery; going on at %d",
            self._name,
            missing,
            partition,
            first,
        )
        return first

    async def _recover(self, partition: int, position: int, resume: int) -> Recovery:
        recovery = Recovery(position)
        offset = resume
        while page := await self._read(Log.OUTCOMES, partition, offset):
            for record in page:
                try:
                    entry = decode(record.value)
                except UnreadableEntryError as error:
                    LOG.warning("outcome log, offset %d: %s", record.offset, error)
                    continue
                if entry.destination == self._name:
                    recovery.take(entry)
            offset = page[-1].offset + 1
        return recovery

    async def _read(self, log: Log, partition: int, offset: int) -> list[Record]:
        try:
            return await self._buffer.read(log, partition, offset, PAGE)
        except RecordsGoneError as gone:  # removed since we looked
            return await self._buffer.read(log, partition, gone.first, PAGE)

    async def _window_start(self, partition: int, position: int) -> int:
        """Return where the window of the record at `position` begins.

        One record more than the count asks for, so that the window knows it was cut by it.
        """
        first = (await self._buffer.span(Log.EVENTS, partition)).first
        before = max(position - 1, first)
        page = await self._buffer.read(Log.EVENTS, partition, before, 1)
        if not page:
            return position
        oldest_ms = page[0].time_ms - round(self._dedup.window_seconds * 1000)
        by_time = await self._buffer.offset_at(Log.EVENTS, partition, oldest_ms)
        by_count = position - self._dedup.per_partition(self._buffer.partitions) - 1
        return min(position, max(first, by_time, by_count))
