"""Apache Kafka as the buffer: the `Buffer` port, of which every replica has one."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence

from gateway.adapters.kafka import mend
from gateway.adapters.kafka.connect import Connect, tls_context
from gateway.adapters.kafka.errors import LibraryLog
from gateway.adapters.kafka.member import Group, Member
from gateway.adapters.kafka.produce import Lane, Producers
from gateway.adapters.kafka.requests import Requests
from gateway.adapters.kafka.settings import KafkaSettings
from gateway.adapters.kafka.topics import prepare, topic_of
from gateway.model.retry import backoff_seconds
from gateway.ports import Assignment, BufferUnavailableError, Draft, Log, Record, Span

_log = logging.getLogger("gateway.buffer")

WAITING_BYTES = 64 << 20
"""How much may wait to be written; more is refused."""
RECORD_BYTES = 100
"""What a record takes in memory beyond its value."""
LONGEST_WAIT_SECONDS = 10.0
"""Between two tries to consume."""


class KafkaBuffer:
    """The `Buffer` port.

    `keep_seconds`: what the topics must keep at least: window, longest retry and a day.
    `hand_over_seconds`: how long an owner may take to finish: longest `timeout_seconds` and 10 s.
    """

    def __init__(
        self, settings: KafkaSettings, keep_seconds: float, hand_over_seconds: float
    ) -> None:
        self._settings = settings
        self._keep_seconds = keep_seconds
        self._hand_over_seconds = hand_over_seconds
        self._library_log = LibraryLog()
        self._topics = {log: topic_of(settings, log) for log in Log}
        self._lanes: dict[tuple[Log, int], Lane] = {}
        self._open = False

    @property
    def partitions(self) -> int:
        """How many partitions each topic has."""
        return self._settings.partitions

    # Open and close.

    async def start(self) -> None:
        """Connect; make or check the topics. Raises as the port says."""
        self._library_log.install()
        mend.install()
        self._connect = Connect(
            self._settings, await asyncio.to_thread(tls_context, self._settings)
        )
        try:
            await prepare(self._connect, self._keep_seconds)
        except BufferUnavailableError as error:
            why = self._library_log.last or str(error)
            raise BufferUnavailableError(
                f"{self._connect.where} cannot be used: {why}; see that it runs, and buffer.servers"
            ) from error
        self._requests = Requests(self._connect)
        self._producers = Producers(self._connect)
        try:
            await self._requests.start(set(self._topics.values()))
            await self._producers.start()
        except BaseException:
            await self._close()
            raise
        self._open = True

    async def stop(self) -> None:
        """Let what was published before this call end, within the deadline; close."""
        if not self._open:
            return
        self._open = False
        await asyncio.gather(*(lane.finish() for lane in self._lanes.values()))
        await self._close()

    async def _close(self) -> None:
        await self._producers.stop()
        await self._requests.stop()

    # Write.

    async def publish(self, log: Log, drafts: Sequence[Draft]) -> list[int]:
        """See the port. When cancelled, the records may be written nonetheless."""
        self._must_be_open()
        indices: dict[int, list[int]] = defaultdict(list)
        for index, draft in enumerate(drafts):
            indices[draft.partition].append(index)
        self._must_be_partitions(indices)
        self._admit(drafts)
        writing = []
        for partition, mine in indices.items():
            taken = [drafts[index] for index in mine]
            writing.append(self._lane(log, partition).add(taken, _size(taken)))
        try:
            async with asyncio.timeout(self._settings.publish_seconds):
                written = await asyncio.gather(*writing)
        except TimeoutError as error:
            raise BufferUnavailableError(
                f"{self._connect.where}: no answer within {self._settings.publish_seconds:g} s"
            ) from error
        offsets = [0] * len(drafts)
        for mine, found in zip(indices.values(), written, strict=True):
            for index, offset in zip(mine, found, strict=True):
                offsets[index] = offset
        return offsets

    def _admit(self, drafts: Sequence[Draft]) -> None:
        waiting = sum(lane.size for lane in self._lanes.values())
        if waiting + _size(drafts) > WAITING_BYTES:
            raise BufferUnavailableError(f"{self._connect.where} is too slow: too much waits")

    def _lane(self, log: Log, partition: int) -> Lane:
        lane = self._lanes.get((log, partition))
        if lane is None:
            lane = Lane(self._producers, self._topics[log], partition, keyed=log is Log.STATE)
            self._lanes[log, partition] = lane
        return lane

    # Read.

    async def read(self, log: Log, partition: int, offset: int, limit: int) -> list[Record]:
        """See the port."""
        self._must_be_open()
        self._must_be_partitions([partition])
        return await self._requests.read(self._topics[log], partition, offset, limit)

    async def span(self, log: Log, partition: int) -> Span:
        """See the port."""
        self._must_be_open()
        self._must_be_partitions([partition])
        return await self._requests.span(self._topics[log], partition)

    async def offset_at(self, log: Log, partition: int, time_ms: int) -> int:
        """See the port."""
        self._must_be_open()
        self._must_be_partitions([partition])
        return await self._requests.offset_at(self._topics[log], partition, time_ms)

    # Consume.

    async def consume(
        self,
        destination: str,
        own: Callable[[Assignment], Awaitable[None]],
        ending: asyncio.Event,
    ) -> None:
        """See the port. A member that Kafka does not let go on begins anew, after a while."""
        self._must_be_open()
        group = Group(
            f"{self._settings.topic_prefix}{destination}",
            self._topics[Log.EVENTS],
            self._connect,
            self._requests,
            self._hand_over_seconds,
        )
        failures = 0
        while not ending.is_set():
            member = Member(group, own)
            try:
                await member.run(ending)
            except BufferUnavailableError as error:
                failures = 1 if member.was_assigned else failures + 1
                _log.warning("%s: cannot consume, trying again: %s", group.name, error)
            else:
                return
            try:
                async with asyncio.timeout(min(LONGEST_WAIT_SECONDS, backoff_seconds(failures, 1))):
                    await ending.wait()
            except TimeoutError:
                continue

    def _must_be_open(self) -> None:
        if not self._open:
            raise BufferUnavailableError("the connection to Kafka is not open")

    def _must_be_partitions(self, partitions: Sequence[int] | dict[int, list[int]]) -> None:
        for partition in partitions:
            if not 0 <= partition < self.partitions:
                raise ValueError(f"there are {self.partitions} partitions, from 0; not {partition}")


def _size(drafts: Sequence[Draft]) -> int:
    return sum(len(draft.value) for draft in drafts) + RECORD_BYTES * len(drafts)
