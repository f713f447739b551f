"""What only Kafka can show, on a real broker: outages, refused topics, what falls out of a log."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.structs import TopicPartition
from click.testing import CliRunner

from gateway.adapters.kafka import KafkaBuffer, KafkaSettings
from gateway.adapters.kafka.assignment import FULL_RECORDS, KafkaAssignment
from gateway.adapters.kafka.buffer import WAITING_BYTES
from gateway.adapters.kafka.member import POLL_RECORDS
from gateway.cli.main import gateway
from gateway.ports import (
    Assignment,
    BufferUnavailableError,
    BufferUnusableError,
    Draft,
    Log,
    Position,
    RecordsGoneError,
)
from tests.brokers import Broker, on_broker
from tests.gateways import free_port

DEADLINE_SECONDS = 30
HOOK = "hook"
Own = Callable[[Assignment], Awaitable[None]]


@pytest.fixture
def settings(broker: Broker) -> KafkaSettings:
    return on_broker(broker, partitions=2).model_copy(
        update={"publish_seconds": 1.5, "answer_seconds": 3.0, "session_seconds": 2.0}
    )


def make(settings: KafkaSettings) -> KafkaBuffer:
    return KafkaBuffer(settings, keep_seconds=3600, hand_over_seconds=5)


@asynccontextmanager
async def opened(settings: KafkaSettings) -> AsyncIterator[KafkaBuffer]:
    buffer = make(settings)
    await buffer.start()
    try:
        yield buffer
    finally:
        await buffer.stop()


@pytest.fixture
async def buffer(settings: KafkaSettings) -> AsyncIterator[KafkaBuffer]:
    async with opened(settings) as found:
        yield found


@asynccontextmanager
async def consuming(buffer: KafkaBuffer, own: Own) -> AsyncIterator[None]:
    ending = asyncio.Event()
    call = asyncio.ensure_future(buffer.consume(HOOK, own, ending))
    try:
        yield
    finally:
        ending.set()
        async with asyncio.timeout(DEADLINE_SECONDS):
            await call


@asynccontextmanager
async def assigned(buffer: KafkaBuffer) -> AsyncIterator[Assignment]:
    """Partition 0, owned while the test goes on."""
    found: asyncio.Future[Assignment] = asyncio.get_running_loop().create_future()

    async def own(assignment: Assignment) -> None:
        if assignment.partition == 0 and not found.done():
            found.set_result(assignment)
        await assignment.ending.wait()

    async with consuming(buffer, own), asyncio.timeout(DEADLINE_SECONDS):
        yield await found


@asynccontextmanager
async def administration(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=list(settings.servers))
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def publish_when_it_goes(buffer: KafkaBuffer, value: bytes) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while True:
            try:
                await buffer.publish(Log.EVENTS, [Draft(0, value)])
            except BufferUnavailableError:
                await asyncio.sleep(0.1)
            else:
                return


async def contents(buffer: KafkaBuffer) -> list[bytes]:
    found: list[bytes] = []
    while records := await buffer.read(Log.EVENTS, 0, len(found), 1000):
        found += [record.value for record in records]
    return found


# Topics.


async def test_a_topic_that_is_not_right_is_refused_in_one_line(settings: KafkaSettings) -> None:
    wrong = NewTopic(
        f"{settings.topic_prefix}events", 3, 1, topic_configs={"retention.ms": "60000"}
    )
    async with administration(settings) as admin:
        await admin.create_topics([wrong])
    with pytest.raises(BufferUnusableError) as error:
        await make(settings).start()
    text = str(error.value)
    assert "\n" not in text
    for words in ("has 3 partitions, not 2", "retention.ms = 60000", "LogAppendTime"):
        assert words in text


async def test_check_refuses_the_same_topics_and_makes_none(
    settings: KafkaSettings, tmp_path: Path
) -> None:
    path = tmp_path / "gateway.toml"
    servers = "".join(f'"{each}"' for each in settings.servers)
    text = (
        f'[buffer]\nkind = "kafka"\nservers = [{servers}]\npartitions = 2\n'
        f'topic_prefix = "{settings.topic_prefix}"\nsingle_node = true\n'
    )
    await asyncio.to_thread(path.write_text, text)
    command = ["check", "--config", str(path)]
    new = await asyncio.to_thread(CliRunner().invoke, gateway, command)
    assert new.exit_code == 0
    assert f"the first start makes {settings.topic_prefix}events" in new.stdout
    async with administration(settings) as admin:
        assert not [each for each in await admin.list_topics() if settings.topic_prefix in each]
        config = {"retention.ms": "60000", "message.timestamp.type": "LogAppendTime"}
        wrong = NewTopic(f"{settings.topic_prefix}events", 2, 1, topic_configs=config)
        await admin.create_topics([wrong])
    old = await asyncio.to_thread(CliRunner().invoke, gateway, command)
    assert old.exit_code == 2
    problem, count = old.stderr.splitlines()
    assert problem.startswith("buffer: Kafka at ")
    assert "events has retention.ms = 60000" in problem
    assert count == "1 problem"


async def test_topics_for_three_brokers_cannot_be_made_on_one(settings: KafkaSettings) -> None:
    with pytest.raises(BufferUnusableError, match=r"buffer\.single_node = true"):
        await make(settings.model_copy(update={"single_node": False})).start()


async def test_two_that_start_together_both_find_the_topics(settings: KafkaSettings) -> None:
    first, second = make(settings), make(settings)
    await asyncio.gather(first.start(), second.start())
    await first.publish(Log.EVENTS, [Draft(0, b"a")])
    assert [each.value for each in await second.read(Log.EVENTS, 0, 0, 5)] == [b"a"]
    await asyncio.gather(first.stop(), second.stop())


async def test_a_start_without_a_broker_is_one_line_that_says_why() -> None:
    server = f"127.0.0.1:{free_port()}"
    settings = KafkaSettings(kind="kafka", servers=(server,), answer_seconds=1)
    with pytest.raises(BufferUnavailableError) as error:
        await make(settings).start()
    assert server in str(error.value)
    assert "Connect call failed" in str(error.value)
    assert "\n" not in str(error.value)


# Writing.


async def test_while_the_broker_is_frozen_a_publish_fails_in_time_and_afterwards_all_goes_on(
    broker: Broker, buffer: KafkaBuffer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    await buffer.publish(Log.EVENTS, [Draft(0, b"before")])
    broker.pause()
    try:
        began = time.monotonic()
        calls = [buffer.publish(Log.EVENTS, [Draft(n % 2, b"frozen")]) for n in range(20)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(each, BufferUnavailableError) for each in results)
        assert time.monotonic() - began < 3
    finally:
        broker.resume()
    await publish_when_it_goes(buffer, b"after")
    found = await contents(buffer)
    assert found[0] == b"before"
    assert found[-1] == b"after"
    assert not [record for record in caplog.records if record.exc_info]
    assert any("connecting anew" in record.getMessage() for record in caplog.records)


async def test_what_was_acknowledged_is_there_after_the_broker_was_killed(
    broker: Broker, buffer: KafkaBuffer
) -> None:
    promised = []
    killed = False

    async def publish(name: int) -> None:
        for number in range(60):
            value = b"%d:%d" % (name, number)
            await publish_when_it_goes(buffer, value)
            promised.append(value)
            await asyncio.sleep(0.01)

    async def restart() -> None:
        nonlocal killed
        while len(promised) < 40:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(broker.kill)
        killed = True
        await asyncio.to_thread(broker.start)

    await asyncio.gather(restart(), *map(publish, range(4)))
    assert killed
    assert set(promised) <= set(await contents(buffer))


async def test_too_much_that_waits_is_refused_at_once(broker: Broker, buffer: KafkaBuffer) -> None:
    big = [Draft(0, b"x" * 900_000)] * 10
    broker.pause()
    try:
        calls = [
            asyncio.ensure_future(buffer.publish(Log.EVENTS, big))
            for _ in range(WAITING_BYTES // 9_000_000 + 1)
        ]
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        first = next(call for call in calls if call.done())
        with pytest.raises(BufferUnavailableError, match="too much waits"):
            await first
        for call in calls:
            with pytest.raises(BufferUnavailableError):
                await call
    finally:
        broker.resume()


# Reading.


async def test_what_has_fallen_out_of_the_log_is_told_as_gone(
    settings: KafkaSettings, buffer: KafkaBuffer
) -> None:
    await buffer.publish(Log.EVENTS, [Draft(0, b"%d" % number) for number in range(10)])
    async with assigned(buffer) as assignment:
        assert len(await assignment.read(0, 4, 5)) == 4
        async with administration(settings) as admin:
            place = TopicPartition(f"{settings.topic_prefix}events", 0)
            await admin.delete_records({place: RecordsToDelete(7)})
        assert await buffer.span(Log.EVENTS, 0) == (7, 10)
        for read in (buffer.read(Log.EVENTS, 0, 6, 5), assignment.read(0, 5, 1)):
            with pytest.raises(RecordsGoneError) as gone:
                await read
            assert gone.value.first == 7
        assert [each.offset for each in await assignment.read(7, 5, 5)] == [7, 8, 9]


async def test_who_stops_reading_for_longer_than_a_session_goes_on_in_order(
    buffer: KafkaBuffer,
) -> None:
    total = 3 * FULL_RECORDS
    async with assigned(buffer) as assignment:
        for start in range(0, total, 500):
            values = [b"%d" % number for number in range(start, start + 500)]
            await buffer.publish(Log.EVENTS, [Draft(0, value) for value in values])
        found = await assignment.read(0, 10, 5)
        await asyncio.sleep(3)  # longer than session_seconds
        await assignment.confirm()
        assert isinstance(assignment, KafkaAssignment)
        assert len(assignment._queue) < FULL_RECORDS + POLL_RECORDS
        while len(found) < total:
            page = await assignment.read(found[-1].offset + 1, 700, 5)
            assert page
            found += page
        assert [record.value for record in found] == [b"%d" % number for number in range(total)]
        again = await assignment.read(5, 3, 5)
        assert [record.offset for record in again] == [5, 6, 7]
        assert [each.offset for each in await assignment.read(8, 1, 5)] == [8]
        assert await assignment.read(total + 5, 3, 0.2) == []


# Positions.


async def test_to_confirm_leaves_the_position_as_it_is(buffer: KafkaBuffer) -> None:
    async with assigned(buffer) as assignment:
        await assignment.confirm()
        assert await assignment.committed() is None
        await assignment.commit(Position(5, 3))
        await asyncio.gather(*(assignment.confirm() for _ in range(20)))
        assert await assignment.committed() == (5, 3)
    async with assigned(buffer) as successor:
        await successor.confirm()
        assert await successor.committed() == (5, 3)


async def test_while_the_broker_is_frozen_nothing_is_confirmed_and_afterwards_it_is(
    broker: Broker, settings: KafkaSettings
) -> None:
    patient = settings.model_copy(update={"session_seconds": 30.0, "answer_seconds": 2.0})
    async with opened(patient) as buffer, assigned(buffer) as assignment:
        await assignment.commit(Position(1, 1))
        broker.pause()
        try:
            with pytest.raises(BufferUnavailableError):
                await assignment.confirm()
        finally:
            broker.resume()
        await assignment.confirm()
        assert await assignment.committed() == (1, 1)
