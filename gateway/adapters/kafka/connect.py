"""How the library's clients are made: one place that knows addresses and credentials."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient

from gateway.adapters.kafka.settings import KafkaSettings
from gateway.ports import BufferUnusableError

BATCH_BYTES = 512 << 10
"""A batch of records, before a record that is larger goes alone: brokers take 1 MiB by default."""
FETCH_BYTES = 1 << 20
TRY_SHARE = 0.45
"""Of a deadline: how long one request may take, so that there is time for another broker."""
FETCH_WAIT_MS = 100
"""How long a broker holds a fetch back for want of records; a partition that is resumed waits
for the fetch under way."""


@dataclass(slots=True, frozen=True)
class Connect:
    """Makes clients, none of them started yet."""

    settings: KafkaSettings
    context: ssl.SSLContext | None

    @property
    def where(self) -> str:
        """Return the addresses, for people."""
        return f"Kafka at {', '.join(self.settings.servers)}"

    def client(self) -> AIOKafkaClient:
        """Return a client for single requests."""
        return AIOKafkaClient(**self._options(self.settings.answer_seconds))

    def admin(self) -> AIOKafkaAdminClient:
        """Return a client for topics."""
        return AIOKafkaAdminClient(**self._options(self.settings.answer_seconds))

    def producer(self) -> AIOKafkaProducer:
        """Return a producer: idempotent, acknowledged by all replicas in sync, no lingering."""
        return AIOKafkaProducer(
            **self._options(self.settings.publish_seconds),
            enable_idempotence=True,
            acks="all",
            linger_ms=0,
            max_batch_size=BATCH_BYTES,
        )

    def consumer(self, group: str, hand_over_seconds: float) -> AIOKafkaConsumer:
        """Return a member of a group: it commits nothing by itself and guesses no offset.

        To join may take as long as the others take to hand over.
        """
        session = self.settings.session_seconds
        options = self._options(self.settings.answer_seconds)
        options["request_timeout_ms"] = _ms(hand_over_seconds + self.settings.answer_seconds)
        return AIOKafkaConsumer(
            **options,
            group_id=group,
            enable_auto_commit=False,
            auto_offset_reset="none",
            session_timeout_ms=_ms(session),
            heartbeat_interval_ms=_ms(session / 4),
            rebalance_timeout_ms=_ms(hand_over_seconds),
            fetch_max_wait_ms=FETCH_WAIT_MS,
            max_partition_fetch_bytes=FETCH_BYTES,
        )

    def _options(self, deadline_seconds: float) -> dict[str, Any]:
        settings = self.settings
        secret = settings.sasl_password
        protocol = "SASL_" if settings.sasl_mechanism else ""
        return {
            "bootstrap_servers": list(settings.servers),
            "client_id": "gateway",
            "request_timeout_ms": _ms(deadline_seconds * TRY_SHARE),
            "security_protocol": protocol + ("SSL" if settings.tls else "PLAINTEXT"),
            "ssl_context": self.context,
            "sasl_mechanism": settings.sasl_mechanism or "PLAIN",
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": secret.get_secret_value() if secret else None,
        }


def tls_context(settings: KafkaSettings) -> ssl.SSLContext | None:
    """Read the certificates. Blocks. Raises BufferUnusableError."""
    if not settings.tls:
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ca_file)
        if settings.cert_file:
            context.load_cert_chain(settings.cert_file, settings.key_file)
    except OSError as error:  # ssl.SSLError is one
        files: list[Path | None] = [settings.ca_file, settings.cert_file, settings.key_file]
        named = ", ".join(str(each) for each in files if each)
        raise BufferUnusableError(
            f"the certificates for Kafka cannot be read ({named}): {error.strerror or error};"
            " see buffer.ca_file, cert_file and key_file"
        ) from error
    return context


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
