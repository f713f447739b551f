"""Producing: what arrives while a partition's batch is in flight goes into its next one."""

import asyncio
import logging
from asyncio import Future
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder

from gateway.adapters.kafka.connect import Connect
from gateway.adapters.kafka.errors import bounded
from gateway.adapters.kafka.mend import allow_expiry
from gateway.ports import BufferUnavailableError, Draft

_log = logging.getLogger("gateway.buffer")

Fill = Callable[[BatchBuilder], None]


class Producers:
    """The producer of the process. One that does not get through is replaced.

    An idempotent producer never gives up a batch (infrastructure.md 2); waiting for it would
    stop its partition for good, and answers must come in time.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()
        self._retired: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Connect. Raises BufferUnavailableError."""
        async with bounded(self._connect.settings.publish_seconds, self._connect.where):
            await self._current()

    async def stop(self) -> None:
        """Let what is in flight end, for a while; close."""
        producer, self._producer = self._producer, None
        if producer is not None:
            await _close(producer, self._connect.settings.publish_seconds)
        if self._retired:
            await asyncio.wait(self._retired)

    async def send(self, topic: str, partition: int, fill: Fill) -> int:
        """Write one batch and return its first offset. Raises BufferUnavailableError: unknown."""
        producer: Any = None
        try:
            async with bounded(self._connect.settings.publish_seconds, self._connect.where):
                producer = await self._current()
                batch = producer.create_batch()
                fill(batch)
                batch.close()
                if not batch.record_count():  # all that waited was cancelled
                    return 0
                sent = await producer.send_batch(batch, topic, partition=partition)
                sent.add_done_callback(_looked_at)
                await asyncio.wait({sent})
                first = int(sent.result().offset)
        except BufferUnavailableError:
            self._retire(producer)
            raise
        if first < 0:  # the broker has it, but has forgotten where
            raise BufferUnavailableError(f"{self._connect.where}: written, at an unknown offset")
        return first

    async def _current(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._producer is None:
                producer = self._connect.producer()
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    def _retire(self, producer: Any) -> None:
        """Give up a producer; None where there was none. What it has in flight ends soon."""
        if self._producer is None or producer is not self._producer:
            return
        self._producer = None
        _log.warning("%s: a write did not get through; connecting anew", self._connect.where)
        task = asyncio.create_task(_close(producer, self._connect.settings.publish_seconds))
        self._retired.add(task)
        task.add_done_callback(self._retired.discard)


def _looked_at(sent: asyncio.Future[Any]) -> None:
    """Take note of an error that may come when nobody waits for it any more."""
    if not sent.cancelled():
        sent.exception()


async def _close(producer: AIOKafkaProducer, seconds: float) -> None:
    """Stop a producer, whatever state it is in, and close its connections."""
    allow_expiry(producer)
    with suppress(KafkaError, TimeoutError):
        async with asyncio.timeout(seconds):
            await producer.stop()
    sending = producer._sender.sender_task  # noqa: SLF001 - it goes on when stop() did not end
    if sending is not None:
        sending.cancel()
    with suppress(KafkaError, TimeoutError):
        async with asyncio.timeout(seconds):
            await producer.client.close()


class _Entry:
    """What one publish adds to a partition."""

    def __init__(self, drafts: Sequence[Draft], size: int) -> None:
        self.future: Future[list[int]] = asyncio.get_running_loop().create_future()
        self.drafts = drafts
        self.size = size
        self.offsets: list[int] = []
        """Of the records acknowledged so far."""
        self.taken = 0
        """How many records have gone into a batch."""


class Lane:
    """One partition of one topic: one batch in flight at a time."""

    def __init__(self, producers: Producers, topic: str, partition: int, *, keyed: bool) -> None:
        self.size = 0
        """Bytes that wait or are in flight."""
        self._producers = producers
        self._topic = topic
        self._partition = partition
        self._keyed = keyed
        self._waiting: deque[_Entry] = deque()
        self._task: asyncio.Task[None] | None = None

    def add(self, drafts: Sequence[Draft], size: int) -> Future[list[int]]:
        """Take in records; return the future of their offsets. Its wait may be cancelled."""
        entry = _Entry(drafts, size)
        self._waiting.append(entry)
        self.size += size
        if self._task is None:
            self._task = asyncio.create_task(self._write_all())
        return entry.future

    async def finish(self) -> None:
        """Wait until all is written, or has failed."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def _write_all(self) -> None:
        try:
            while self._waiting:
                await self._write()
        finally:
            self._task = None

    async def _write(self) -> None:
        taken: list[tuple[_Entry, int]] = []
        try:
            first = await self._producers.send(
                self._topic, self._partition, lambda batch: self._fill(batch, taken)
            )
        except BufferUnavailableError as error:
            self._fail([entry for entry, _ in taken] or list(self._waiting), error)
            return
        except Exception as error:  # noqa: BLE001 - a fault of our own: whoever waits must hear of it
            _log.exception("a write failed")
            unknown = BufferUnavailableError(f"a write failed: {error!r}")
            self._fail([entry for entry, _ in taken] or list(self._waiting), unknown)
            return
        for entry, count in taken:
            entry.offsets += range(first, first + count)
            first += count
            if len(entry.offsets) == len(entry.drafts):
                self._done(entry)

    def _fill(self, batch: BatchBuilder, taken: list[tuple[_Entry, int]]) -> None:
        """Put into a batch what fits; note how many records of each entry it took."""
        while self._waiting:
            entry = self._waiting[0]
            before = entry.taken
            if before == 0 and entry.future.cancelled():
                self._release(self._waiting.popleft())
                continue
            self._append(batch, entry)
            if entry.taken > before:
                taken.append((entry, entry.taken - before))
            if entry.taken < len(entry.drafts):
                return
            self._waiting.popleft()

    def _append(self, batch: BatchBuilder, entry: _Entry) -> None:
        for draft in entry.drafts[entry.taken :]:
            key = draft.key if self._keyed else None
            value = None if self._keyed and not draft.value else draft.value  # removes the key
            if batch.append(timestamp=None, key=key, value=value) is None:
                return
            entry.taken += 1

    def _done(self, entry: _Entry) -> None:
        self._release(entry)
        if not entry.future.done():
            entry.future.set_result(entry.offsets)

    def _fail(self, entries: Sequence[_Entry], error: BufferUnavailableError) -> None:
        for entry in entries:
            if self._waiting and self._waiting[0] is entry:  # partly or not at all taken
                self._waiting.popleft()
            self._release(entry)
            if not entry.future.done():
                entry.future.set_exception(BufferUnavailableError(str(error)))

    def _release(self, entry: _Entry) -> None:
        self.size -= entry.size
