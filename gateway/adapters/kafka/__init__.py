"""Apache Kafka as the buffer: any number of replicas of every role."""

from gateway.adapters.kafka.buffer import KafkaBuffer
from gateway.adapters.kafka.settings import KafkaSettings

__all__ = ["KafkaBuffer", "KafkaSettings"]
