"""Writes what a destination does in one partition, and knows where a successor resumes reading."""

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from gateway.deliver import measure
from gateway.model import dead
from gateway.model.journal import Entry, encode
from gateway.ports import Buffer, BufferUnavailableError, Draft, Log

OUTAGE_SECONDS = 0.5
"""Between tries while the buffer is away."""
LOG = logging.getLogger("gateway.deliver")
SELDOM = {"seldom": True}
"""Of a line about trouble that goes on: once in a while is enough."""


class Journal:
    """The writer. It tries until the buffer takes what it is given: nothing goes on without."""

    def __init__(self, buffer: Buffer, partition: int, end: int) -> None:
        """`end`: the next offset of the outcome log, or any that is known to be lower."""
        self._buffer = buffer
        self._partition = partition
        self._end = end
        self._floors: list[int] = []

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Span writing an entry *and* acting on it, so that `resume_offset` lies before it.

        Otherwise a snapshot made in between would call open what the log before it calls settled.
        """
        floor = self._end
        self._floors.append(floor)
        try:
            yield
        finally:
            self._floors.remove(floor)

    async def write(self, entry: Entry) -> None:
        """Publish an entry to the outcome log."""
        [offset] = await self._publish(Log.OUTCOMES, [encode(entry)])
        self._end = max(self._end, offset + 1)

    async def bury(self, letters: Sequence[dead.DeadLetter]) -> None:
        """Publish dead letters; their outcomes are written after."""
        if letters:
            await self._publish(Log.DEAD, [dead.encode(letter) for letter in letters])
        for letter in letters:
            measure.buried(letter)

    def resume_offset(self) -> int:
        """Return an offset at or before every entry that has not been acted on yet."""
        return min([self._end, *self._floors])

    async def _publish(self, log: Log, values: Sequence[bytes]) -> list[int]:
        drafts = [Draft(self._partition, value) for value in values]
        while True:
            try:
                return await self._buffer.publish(log, drafts)
            except BufferUnavailableError as error:
                LOG.warning(
                    "the buffer does not take the %s log, trying again: %s",
                    log,
                    error,
                    extra=SELDOM,
                )
            await asyncio.sleep(OUTAGE_SECONDS)
