"""Which topics are refused (rule 5), without a broker."""

import pytest

from gateway.adapters.kafka.settings import KafkaSettings
from gateway.adapters.kafka.topics import problems, wanted
from gateway.ports import Log

KEEP_SECONDS = 432_000.0
SETTINGS = KafkaSettings(kind="kafka")
ALONE = KafkaSettings(kind="kafka", single_node=True)


@pytest.mark.parametrize("log", Log)
@pytest.mark.parametrize("settings", [SETTINGS, ALONE])
def test_a_topic_as_it_is_made_is_right(log: Log, settings: KafkaSettings) -> None:
    made = wanted(log, settings)
    assert made.replication_factor == (1 if settings.single_node else 3)
    config = {"retention.bytes": "-1", "retention.ms": "1", **made.topic_configs}
    assert problems(log, made.num_partitions, config, settings, KEEP_SECONDS) == []


@pytest.mark.parametrize("log", Log)
def test_another_number_of_partitions_is_refused(log: Log) -> None:
    config = {"retention.bytes": "-1", "retention.ms": "-1", **wanted(log, SETTINGS).topic_configs}
    (wrong,) = problems(log, 6, config, SETTINGS, KEEP_SECONDS)
    assert wrong.startswith("has 6 partitions, not 12")
    assert "topic_prefix" in wrong


@pytest.mark.parametrize(
    ("log", "name", "value", "words"),
    [
        (Log.EVENTS, "retention.ms", "431999999", "set it to 432000000 at least"),
        (Log.OUTCOMES, "retention.ms", "86400000", "shorter than the window"),
        (Log.EVENTS, "retention.bytes", "1000000000", "set it to -1"),
        (Log.DEAD, "retention.bytes", "1000000000", "set it to -1"),
        (Log.EVENTS, "cleanup.policy", "compact", "set it to delete"),
        (Log.OUTCOMES, "cleanup.policy", "compact,delete", "set it to delete"),
        (Log.STATE, "cleanup.policy", "delete", "set it to compact"),
        (Log.STATE, "cleanup.policy", "compact,delete", "set it to compact"),
        (Log.EVENTS, "message.timestamp.type", "CreateTime", "set it to LogAppendTime"),
        (Log.EVENTS, "min.insync.replicas", "1", "single_node"),
        (Log.STATE, "min.insync.replicas", "1", "single_node"),
    ],
)
def test_a_topic_that_may_lose_what_is_needed_is_refused(
    log: Log, name: str, value: str, words: str
) -> None:
    config = {"retention.bytes": "-1", "retention.ms": "-1", **wanted(log, SETTINGS).topic_configs}
    (wrong,) = problems(log, 12, {**config, name: value}, SETTINGS, KEEP_SECONDS)
    assert f"has {name} = {value}" in wrong
    assert words in wrong


def test_topics_without_a_limit_of_age_and_others_times_elsewhere_are_fine() -> None:
    config = {**wanted(Log.OUTCOMES, SETTINGS).topic_configs, "retention.ms": "-1"}
    config["message.timestamp.type"] = "CreateTime"
    assert problems(Log.OUTCOMES, 12, config, SETTINGS, KEEP_SECONDS) == []


def test_one_broker_needs_no_second_replica_where_that_is_said() -> None:
    config = {**wanted(Log.EVENTS, SETTINGS).topic_configs, "min.insync.replicas": "1"}
    assert problems(Log.EVENTS, 12, config, ALONE, KEEP_SECONDS) == []
