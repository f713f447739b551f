"""Single requests, each within its deadline: reading without a group, positions, membership.

The library's consumer takes a group's generation when it sends a commit, drops a commit's
metadata and reads only in order; so these are made here, with its client and its protocol.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from aiokafka.client import AIOKafkaClient, ConnectionGroup, CoordinationType
from aiokafka.consumer.fetcher import READ_UNCOMMITTED, PartitionRecords
from aiokafka.errors import (
    IllegalGenerationError,
    KafkaError,
    NoError,
    OffsetOutOfRangeError,
    RebalanceInProgressError,
    StaleMetadata,
    UnknownMemberIdError,
    for_code,
)
from aiokafka.protocol.commit import OffsetCommitRequest, OffsetFetchRequest
from aiokafka.protocol.fetch import FetchRequest
from aiokafka.protocol.group import LeaveGroupRequest
from aiokafka.protocol.offset import OffsetRequest
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition

from gateway.adapters.kafka.connect import FETCH_BYTES, Connect
from gateway.adapters.kafka.errors import bounded
from gateway.ports import (
    AssignmentLostError,
    BufferUnavailableError,
    Record,
    RecordsGoneError,
    Span,
)

EARLIEST, LATEST = -2, -1
NO_OFFSET = -1
AGAIN_SECONDS = 0.1
RECORD_BYTES = 2048
"""About what a record takes; a read asks for so much of each."""
SLACK_BYTES = 64 << 10
LOST = (
    UnknownMemberIdError,
    IllegalGenerationError,
    RebalanceInProgressError,
)
"""A commit's errors that say that the partition is, or is about to be, another member's."""

Taken = TypeVar("Taken")


class Membership(NamedTuple):
    """One generation of a member: the broker refuses what it sends when it is over."""

    group: str
    generation: int
    member: str


class Place(NamedTuple):
    """A group's committed place in a partition."""

    offset: int
    metadata: str


class Requests:
    """A client. After a time-out it is made anew, for brokers may have got other addresses."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._client: AIOKafkaClient | None = None
        self._connecting = asyncio.Lock()
        self._coordinators: dict[str, int] = {}
        self._topics: set[str] = set()

    async def start(self, topics: set[str]) -> None:
        """Connect. Raises BufferUnavailableError."""
        self._topics = topics
        async with bounded(self._connect.settings.answer_seconds, self._connect.where):
            await self._connected()

    async def stop(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    # Reading without a group.

    async def read(self, topic: str, partition: int, offset: int, limit: int) -> list[Record]:
        """Return up to `limit` records; none at the end. Raises RecordsGoneError."""
        limit_bytes = min(FETCH_BYTES, limit * RECORD_BYTES + SLACK_BYTES)
        while True:
            raw = await self._fetch(topic, partition, offset, limit_bytes)
            if raw is None:
                span = await self.span(topic, partition)
                if offset < span.first:
                    raise RecordsGoneError(span.first)
                return []
            found, after = _records(raw, TopicPartition(topic, partition), offset, limit)
            if found or after == offset:
                return found
            offset = after  # compaction has left nothing of these

    async def span(self, topic: str, partition: int) -> Span:
        """Return the offsets held."""
        first, end = await asyncio.gather(
            self._offset(topic, partition, EARLIEST), self._offset(topic, partition, LATEST)
        )
        return Span(first, end)

    async def offset_at(self, topic: str, partition: int, time_ms: int) -> int:
        """Return the first offset with that time or a later one; the end if there is none."""
        found = await self._offset(topic, partition, max(0, time_ms))
        return found if found != NO_OFFSET else await self._offset(topic, partition, LATEST)

    async def _fetch(
        self, topic: str, partition: int, offset: int, limit_bytes: int
    ) -> bytes | None:
        """Return what is stored from an offset on, None when the log does not reach there."""
        asked = [(topic, [(partition, offset, limit_bytes)])]
        request = FetchRequest(0, 1, limit_bytes, READ_UNCOMMITTED, asked)

        def take(response: Any) -> bytes | None:
            _, code, *_, data = _only(response)
            if for_code(code) is OffsetOutOfRangeError:
                return None
            _check(code)
            return data or b""

        return await self._of_leader(topic, partition, request, take)

    async def _offset(self, topic: str, partition: int, time_ms: int) -> int:
        request = OffsetRequest(-1, READ_UNCOMMITTED, [(topic, [(partition, time_ms)])])

        def take(response: Any) -> int:
            _, code, _, offset = _only(response)
            _check(code)
            return int(offset)

        return await self._of_leader(topic, partition, request, take)

    # Groups.

    async def committed(self, group: str, topic: str, partition: int) -> Place | None:
        """Return the last commit, or None."""
        request = OffsetFetchRequest(group, [(topic, [partition])])

        def take(response: Any) -> Place | None:
            _, offset, metadata, code = _only(response)
            _check(code)
            return None if offset == NO_OFFSET else Place(offset, metadata or "")

        return await self._of_coordinator(group, request, take)

    async def commit(self, by: Membership, topic: str, places: Mapping[int, Place]) -> None:
        """Commit for a member. Raises AssignmentLostError when its generation is over."""
        request = OffsetCommitRequest(
            by.group,
            by.generation,
            by.member,
            OffsetCommitRequest.DEFAULT_RETENTION_TIME,
            [(topic, [(partition, *place) for partition, place in places.items()])],
        )

        def take(response: Any) -> None:
            for _, partitions in response.topics:
                for _, code in partitions:
                    _check(code)

        try:
            await self._of_coordinator(by.group, request, take)
        except BufferUnavailableError as error:
            if isinstance(error.__cause__, LOST):
                raise AssignmentLostError(
                    f"{by.group}: the partition is another member's by now"
                ) from error
            raise

    async def leave(self, by: Membership) -> None:
        """Leave the group, also while it is being shared out anew."""
        request = LeaveGroupRequest(by.group, by.member)
        await self._of_coordinator(by.group, request, lambda _: None)

    # How they are sent.

    async def _of_leader(
        self, topic: str, partition: int, request: Any, take: Callable[[Any], Taken]
    ) -> Taken:
        async def ask(client: AIOKafkaClient) -> Taken:
            leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
            if leader is None or leader < 0:
                raise StaleMetadata(f"partition {partition} of {topic} has no leader")
            return take(await client.send(leader, request))

        return await self._until_answered(ask)

    async def _of_coordinator(
        self, group: str, request: Any, take: Callable[[Any], Taken]
    ) -> Taken:
        async def ask(client: AIOKafkaClient) -> Taken:
            node = self._coordinators.pop(group, None)  # and back only when it has answered well
            if node is None:
                node = await client.coordinator_lookup(CoordinationType.GROUP, group)
            taken = take(await client.send(node, request, group=ConnectionGroup.COORDINATION))
            self._coordinators[group] = node
            return taken

        return await self._until_answered(ask)

    async def _until_answered(self, ask: Callable[[AIOKafkaClient], Awaitable[Taken]]) -> Taken:
        """Try as long as there is time and it may help."""
        try:
            async with bounded(self._connect.settings.answer_seconds, self._connect.where):
                while True:
                    client = None
                    try:
                        client = await self._connected()
                        return await ask(client)
                    except KafkaError as error:
                        if not error.retriable:
                            raise
                        if client is not None and error.invalid_metadata:
                            client.force_metadata_update()
                    await asyncio.sleep(AGAIN_SECONDS)
        except BufferUnavailableError as error:
            if isinstance(error.__cause__, TimeoutError):
                await self.stop()
            raise

    async def _connected(self) -> AIOKafkaClient:
        async with self._connecting:
            if self._client is None:
                client = self._connect.client()
                try:
                    await client.bootstrap()
                    await client.set_topics(self._topics)
                except BaseException:
                    await client.close()
                    raise
                self._client = client
            return self._client


def _only(response: Any) -> Any:
    """Return what is said of the one partition asked for; nothing is where all of it failed."""
    _check(getattr(response, "error_code", 0))
    [(_, [found])] = response.topics
    return found


def _check(code: int) -> None:
    """Raise the error that a code stands for."""
    error = for_code(code)
    if error is not NoError:
        raise error


def _records(raw: bytes, at: TopicPartition, offset: int, limit: int) -> tuple[list[Record], int]:
    """Return the records from `offset` on, and the offset after what was looked at."""
    unpacked = PartitionRecords(
        at, MemoryRecords(raw), [], offset, None, None, True, READ_UNCOMMITTED  # noqa: FBT003 - takes no names
    )  # fmt: skip
    found = [record_of(each) for each in islice(unpacked, limit)]
    return found, found[-1].offset + 1 if found else unpacked.next_fetch_offset


def record_of(found: Any) -> Record:
    """Return a record as the port has it, from the library's."""
    return Record(
        found.partition, found.offset, found.timestamp, found.value or b"", found.key or b""
    )
