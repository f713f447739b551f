"""One member of a destination's consumer group: it is assigned partitions, and fetches for them."""

import asyncio
import logging
from asyncio import Task
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from aiokafka import AIOKafkaConsumer
from aiokafka.abc import ConsumerRebalanceListener
from aiokafka.errors import (
    IllegalStateError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
)
from aiokafka.structs import TopicPartition

from gateway.adapters.kafka.assignment import KafkaAssignment
from gateway.adapters.kafka.commit import Commits
from gateway.adapters.kafka.connect import Connect
from gateway.adapters.kafka.errors import bounded, words
from gateway.adapters.kafka.requests import Membership, Requests, record_of
from gateway.ports import (
    Assignment,
    AssignmentLostError,
    BufferFailedError,
    BufferUnavailableError,
    Record,
    Span,
)

_log = logging.getLogger("gateway.buffer")

Own = Callable[[Assignment], Awaitable[None]]
POLL_MS = 500
POLL_RECORDS = 500
STOP_SECONDS = 5.0


@dataclass(slots=True, frozen=True)
class Group:
    """What the members of a destination have in common."""

    name: str
    topic: str
    connect: Connect
    requests: Requests
    hand_over_seconds: float
    """How long owners have to finish when partitions are shared out anew."""


class Member(ConsumerRebalanceListener):  # type: ignore[misc]  # the library has no types
    """A consumer from its start to its end, and the work on what it is assigned."""

    def __init__(self, group: Group, own: Own) -> None:
        self.was_assigned = False
        """Whether it got as far as being assigned partitions."""
        self._group = group
        self._own = own
        self._consumer: AIOKafkaConsumer = group.connect.consumer(
            group.name, group.hand_over_seconds
        )
        self._by: Membership | None = None
        self._held: dict[int, KafkaAssignment] = {}
        self._work: dict[KafkaAssignment, Task[None]] = {}
        self._closing = False
        self._failure: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self, ending: asyncio.Event) -> None:
        """Work until `ending`, or until an owner fails, whose error is raised.

        Raises BufferUnavailableError when the consumer itself can't go on.
        """
        tasks: list[Task[None]] = []
        try:
            await self._start()
            tasks = [
                asyncio.create_task(self._pump()),
                asyncio.create_task(_until(ending)),
            ]
            await asyncio.wait({*tasks, self._failure}, return_when=asyncio.FIRST_COMPLETED)
            await self._end_work()
            for task in tasks:
                if task.done():
                    task.result()
            if self._failure.done():
                self._failure.result()
        finally:
            await self._abandon_work()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._failure.cancel()
            await self._stop()

    # What the library calls. Heartbeats go on while a partition is revoked, and not again before
    # `on_partitions_assigned` has returned (infrastructure.md 2).

    async def on_partitions_revoked(
        self,
        revoked: Iterable[TopicPartition],  # noqa: ARG002 - always all
    ) -> None:
        """Wait for the owners of all partitions, whatever is assigned next."""
        if self._by is not None and self._by != self._membership():
            for assignment in self._work:  # silent for too long: others own them by now
                assignment.lose()
            _log.warning("%s: lost its partitions: it was silent for too long", self._group.name)
        await self._end_work()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Begin to own."""
        self._held.clear()
        if self._closing:
            return
        self.was_assigned = True
        self._by = self._membership()
        commits = Commits(self._group.requests, self._by, self._group.topic)
        partitions = sorted(each.partition for each in assigned)
        for number in partitions:
            assignment = KafkaAssignment(self, number, commits)
            self._held[number] = assignment
            self.seek(number, 0)  # so that no offset is looked up; nothing is fetched from there
            self.pause(number)
            task = asyncio.create_task(self._carry(assignment))
            self._work[assignment] = task
            task.add_done_callback(partial(self._ended, assignment))
        _log.info("%s: owns %s", self._group.name, _words(partitions))

    def _membership(self) -> Membership:
        """Return who the broker knows this consumer as; there is no public way to ask."""
        coordinator = self._consumer._coordinator  # noqa: SLF001
        return Membership(self._group.name, coordinator.generation, coordinator.member_id)

    # Work.

    async def _carry(self, assignment: KafkaAssignment) -> None:
        try:
            await self._own(assignment)
        except AssignmentLostError:
            if not assignment.lost:
                raise

    def _ended(self, assignment: KafkaAssignment, task: Task[None]) -> None:
        self._work.pop(assignment, None)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._failure.done():
            self._failure.set_exception(error)

    async def _end_work(self) -> None:
        for assignment in self._work:
            assignment.end()
        if self._work:
            await asyncio.wait(set(self._work.values()))
        for assignment in self._held.values():
            assignment.lose()

    async def _abandon_work(self) -> None:
        """Cancel what still runs; none of it can commit any more."""
        self._closing = True
        for assignment in self._held.values():
            assignment.lose()
        work = list(self._work.values())
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)

    # Fetching, for assignments.

    async def span(self, partition: int) -> Span:
        """Return the offsets that `events` holds."""
        return await self._group.requests.span(self._group.topic, partition)

    def seek(self, partition: int, offset: int) -> None:
        """Fetch from there on."""
        with suppress(IllegalStateError):  # it is being taken away
            self._consumer.seek(self._at(partition), offset)

    def pause(self, partition: int) -> None:
        """Fetch nothing."""
        with suppress(IllegalStateError):
            self._consumer.pause(self._at(partition))

    def resume(self, partition: int) -> None:
        """Fetch again."""
        with suppress(IllegalStateError):
            self._consumer.resume(self._at(partition))

    def _at(self, partition: int) -> TopicPartition:
        return TopicPartition(self._group.topic, partition)

    async def _pump(self) -> None:
        """Never stop polling, or the member is expelled: partitions that are full are paused.

        Raises BufferUnavailableError when the consumer can't go on.
        """
        while True:
            try:
                found = await self._consumer.getmany(timeout_ms=POLL_MS, max_records=POLL_RECORDS)
            except OffsetOutOfRangeError as error:
                for at in error.args[0]:
                    self._begin_anew(at.partition)
            except NoOffsetForPartitionError:
                continue  # looked up before `on_partitions_assigned` could say where to begin
            except KafkaError as error:
                raise BufferUnavailableError(f"{self._group.name}: {words(error)}") from error
            else:
                for at, records in found.items():
                    self._hand_on(at.partition, list(map(record_of, records)))

    def _hand_on(self, partition: int, records: Sequence[Record]) -> None:
        if partition in self._held:
            self._held[partition].put(records)

    def _begin_anew(self, partition: int) -> None:
        if partition in self._held:
            self._held[partition].begin_anew()

    # Start and stop.

    async def _start(self) -> None:
        async with bounded(self._group.connect.settings.answer_seconds, self._group.connect.where):
            await self._consumer.start()
            self._consumer.subscribe([self._group.topic], listener=self)

    async def _stop(self) -> None:
        """Leave the group, so that others need not wait, and close."""
        consumer = self._consumer
        if consumer._coordinator is not None:  # noqa: SLF001 - see _membership
            by = self._membership()
            with suppress(BufferFailedError, TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    if by.member:  # also in the middle of joining, where stop() would wait
                        await self._group.requests.leave(by)
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await consumer.stop()
        except (TimeoutError, KafkaError):
            await self._give_up()

    async def _give_up(self) -> None:
        """End what stop() left running; there is no public way."""
        consumer = self._consumer
        consumer._coordinator.reset_generation()  # noqa: SLF001 - ends the heartbeats
        with suppress(Exception):
            async with asyncio.timeout(STOP_SECONDS):
                await consumer._fetcher.close()  # noqa: SLF001
                await consumer._client.close()  # noqa: SLF001


async def _until(event: asyncio.Event) -> None:
    await event.wait()


def _words(partitions: Sequence[int]) -> str:
    if not partitions:
        return "no partition"
    return f"{len(partitions)} partition(s): {', '.join(map(str, partitions))}"
