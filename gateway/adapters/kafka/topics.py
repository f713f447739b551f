"""The four topics: made when they are missing, else checked (rule 5)."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import NoError, TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code

from gateway.adapters.kafka.connect import Connect
from gateway.adapters.kafka.errors import bounded
from gateway.adapters.kafka.settings import KafkaSettings
from gateway.model.retention import DEAD_MS
from gateway.ports import BufferUnusableError, Log

DAY_MS = 86_400_000
LEAST_IN_SYNC = 2
MESSAGE_BYTES = 8 << 20
"""A record may be this large; the outcome log's snapshots can be larger than Kafka's 1 MiB."""
SEGMENT_MS = DAY_MS
"""Kafka removes whole segments only, and none that is still written to."""
LOOK_AGAIN_SECONDS = 0.1


class Look(NamedTuple):
    """What there is to say of the topics before a start."""

    wrong: tuple[str, ...]
    """For each thing that a start would refuse: where, what, and the remedy."""
    missing: tuple[str, ...]
    """The topics that the first start would make."""


def topic_of(settings: KafkaSettings, log: Log) -> str:
    """Return the topic's name."""
    return f"{settings.topic_prefix}{log}"


async def prepare(connect: Connect, keep_seconds: float) -> None:
    """Make the topics that are missing and check those that are there.

    `keep_seconds`: window, longest retry and a day. Raises BufferUnavailableError; and
    BufferUnusableError with one line that names everything which is wrong.
    """
    settings = connect.settings
    admin = connect.admin()
    try:
        async with bounded(2 * settings.answer_seconds, connect.where):
            await admin.start()
            await _make_missing(admin, settings)
            wrong = await _wrong(admin, settings, list(Log), keep_seconds)
    finally:
        await admin.close()
    if wrong:
        raise BufferUnusableError(f"{connect.where}: {'; '.join(wrong)}")


async def look(connect: Connect, keep_seconds: float) -> Look:
    """Check the topics that are there, and make none. Raises BufferUnavailableError."""
    settings = connect.settings
    admin = connect.admin()
    try:
        async with bounded(settings.answer_seconds, connect.where):
            await admin.start()
            there = await admin.list_topics()
            made = [log for log in Log if topic_of(settings, log) in there]
            wrong = await _wrong(admin, settings, made, keep_seconds)
    finally:
        await admin.close()
    missing = [topic_of(settings, log) for log in Log if log not in made]
    return Look(tuple(f"{connect.where}: {each}" for each in wrong), tuple(missing))


async def _wrong(
    admin: AIOKafkaAdminClient, settings: KafkaSettings, logs: Sequence[Log], keep_seconds: float
) -> list[str]:
    """Return everything that is wrong with the topics of these logs, which are there."""
    names = {log: topic_of(settings, log) for log in logs}
    if not names:
        return []
    found = await _until_led(admin, list(names.values()))
    configs = await _configs(admin, list(found))
    return [
        f"{name} {each}"
        for log, name in names.items()
        for each in problems(log, found[name], configs[name], settings, keep_seconds)
    ]


def problems(
    log: Log, partitions: int, config: Mapping[str, str], settings: KafkaSettings, keep: float
) -> list[str]:
    """Return what is wrong with a topic, each with its remedy; nothing when it may be used."""
    wrong = []
    if partitions != settings.partitions:
        wrong.append(
            f"has {partitions} partitions, not {settings.partitions}: set buffer.partitions ="
            f" {partitions}, or another buffer.topic_prefix for new topics"
        )
    if log is Log.STATE:
        wrong += _must_be(config, "cleanup.policy", "compact")
    else:
        wrong += _must_be(config, "cleanup.policy", "delete")
        wrong += _must_be(config, "retention.bytes", "-1")
        wrong += _keeps(config, keep)
    if log is Log.EVENTS:
        wrong += _must_be(config, "message.timestamp.type", "LogAppendTime")
    in_sync = int(config["min.insync.replicas"])
    if in_sync < LEAST_IN_SYNC and not settings.single_node:
        wrong.append(
            f"has min.insync.replicas = {in_sync}: set it to {LEAST_IN_SYNC}, or"
            " buffer.single_node = true where losing events does not matter"
        )
    return wrong


def _must_be(config: Mapping[str, str], name: str, wanted: str) -> list[str]:
    return [] if config[name] == wanted else [f"has {name} = {config[name]}: set it to {wanted}"]


def _keeps(config: Mapping[str, str], keep_seconds: float) -> list[str]:
    retention_ms, needed_ms = int(config["retention.ms"]), round(keep_seconds * 1000)
    if retention_ms < 0 or retention_ms >= needed_ms:
        return []
    wrong = (
        f"has retention.ms = {retention_ms}, shorter than the window, the longest"
        f" retry_for_seconds and a day: set it to {needed_ms} at least"
    )
    return [wrong]


def wanted(log: Log, settings: KafkaSettings) -> NewTopic:
    """Return the topic as it is made."""
    config = {
        "message.timestamp.type": "LogAppendTime",
        "max.message.bytes": str(MESSAGE_BYTES),
        "min.insync.replicas": str(1 if settings.single_node else LEAST_IN_SYNC),
    }
    if log is Log.STATE:
        config["cleanup.policy"] = "compact"
    else:
        retention_ms = DEAD_MS if log is Log.DEAD else round(settings.retention_seconds * 1000)
        config |= {
            "cleanup.policy": "delete",
            "retention.ms": str(retention_ms),
            "retention.bytes": "-1",
            "segment.ms": str(min(SEGMENT_MS, retention_ms)),
        }
    return NewTopic(
        topic_of(settings, log), settings.partitions, settings.replicas, topic_configs=config
    )


async def _make_missing(admin: AIOKafkaAdminClient, settings: KafkaSettings) -> None:
    there = await admin.list_topics()
    missing = [log for log in Log if topic_of(settings, log) not in there]
    if not missing:
        return
    made = await admin.create_topics([wanted(log, settings) for log in missing])
    refused = [
        f"{topic} cannot be made: {message or for_code(code).__name__}"
        for topic, code, message, *_ in made.topic_errors
        if for_code(code) not in {NoError, TopicAlreadyExistsError}  # another replica was first
    ]
    if refused:
        raise BufferUnusableError(
            f"{'; '.join(refused)}; make the topics, or, for a single broker, set"
            " buffer.single_node = true"
        )


async def _until_led(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, int]:
    """Return how many partitions each topic has, once each of them has a leader."""
    while True:
        topics = await admin.describe_topics(names)
        if all(map(_is_led, topics)):
            return {topic["topic"]: len(topic["partitions"]) for topic in topics}
        await asyncio.sleep(LOOK_AGAIN_SECONDS)


def _is_led(topic: Mapping[str, Any]) -> bool:
    parts = topic["partitions"]
    return not topic["error_code"] and bool(parts) and all(each["leader"] >= 0 for each in parts)


async def _configs(admin: AIOKafkaAdminClient, names: Sequence[str]) -> dict[str, dict[str, str]]:
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    while True:
        found: dict[str, dict[str, str]] = {}
        for response in await admin.describe_configs(asked):
            for code, _, _, name, entries in response.resources:
                error = for_code(code)
                if error is UnknownTopicOrPartitionError:  # not known yet to the one that we asked
                    continue
                if error is not NoError:
                    raise error(name)
                found[name] = {entry[0]: entry[1] for entry in entries}
        if len(found) == len(names):
            return found
        await asyncio.sleep(LOOK_AGAIN_SECONDS)
