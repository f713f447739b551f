"""Writes a destination's entries of one partition to the outcome log, and knows where to resume."""

from collections.abc import Iterator
from contextlib import contextmanager

from gateway.model.journal import Entry, encode
from gateway.ports import Buffer, Draft, Log


class Journal:
    """The writer. Everything raises BufferUnavailableError."""

    def __init__(self, buffer: Buffer, partition: int, end: int) -> None:
        """`end`: the next offset of the outcome log, or any that is known to be lower."""
        self._buffer = buffer
        self._partition = partition
        self._end = end
        self._floors: list[int] = []

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Spans writing an entry *and* acting on it, so that `resume_offset` lies before it.

        Otherwise a snapshot made in between would call open what the log before it calls settled.
        """
        floor = self._end
        self._floors.append(floor)
        try:
            yield
        finally:
            self._floors.remove(floor)

    async def write(self, entry: Entry) -> int:
        """Publish an entry; its offset once it is durable."""
        draft = Draft(self._partition, encode(entry))
        [offset] = await self._buffer.publish(Log.OUTCOMES, [draft])
        self._end = max(self._end, offset + 1)
        return offset

    def resume_offset(self) -> int:
        """Return an offset at or before every entry that has not been acted on yet."""
        return min([self._end, *self._floors])
