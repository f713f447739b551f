"""What `gateway check` asks a Kafka: may the topics that are there be used? It makes none."""

import asyncio

from gateway.adapters.kafka import topics
from gateway.adapters.kafka.connect import Connect, tls_context
from gateway.adapters.kafka.errors import LibraryLog
from gateway.adapters.kafka.settings import KafkaSettings
from gateway.adapters.kafka.topics import Look
from gateway.ports import BufferUnavailableError

LOOK_SECONDS = 5.0
"""Somebody waits, perhaps where no Kafka can be reached."""


async def look(settings: KafkaSettings, keep_seconds: float) -> Look:
    """Return what is wrong and what is missing.

    Raises BufferUnavailableError where no broker answers, and BufferUnusableError where the
    certificates cannot be read.
    """
    library_log = LibraryLog()
    library_log.install()
    seconds = min(LOOK_SECONDS, settings.answer_seconds)
    quick = settings.model_copy(update={"answer_seconds": seconds})
    connect = Connect(quick, await asyncio.to_thread(tls_context, settings))
    try:
        return await topics.look(connect, keep_seconds)
    except BufferUnavailableError as error:
        why = library_log.last or str(error)
        raise BufferUnavailableError(f"{connect.where} cannot be asked: {why}") from error
