"""What the client library does wrong is seen to go wrong no more."""

import asyncio
import gc
from typing import Any

import pytest
import uvloop
from aiokafka import conn
from aiokafka.errors import KafkaConnectionError
from aiokafka.producer import message_accumulator
from aiokafka.protocol.metadata import MetadataRequest

from gateway.adapters.kafka import mend


@pytest.fixture(autouse=True)
def mended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conn, "AIOKafkaConnection", conn.AIOKafkaConnection)
    monkeypatch.setattr(message_accumulator, "MessageBatch", message_accumulator.MessageBatch)
    mend.install()


async def test_a_batch_that_fails_while_it_waits_to_be_sent_again_leaves_no_traceback() -> None:
    said: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
    batch = message_accumulator.MessageBatch(None, None, 1, 0)
    batch.drain_ready()
    batch.reset_drain()
    batch.failure(ValueError("given up"))
    assert isinstance(batch.future.exception(), ValueError)
    del batch
    gc.collect()
    assert said == []


def test_a_request_on_a_connection_that_is_closed_is_an_error_of_the_library() -> None:
    async def ask() -> None:
        server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
        async with server:
            host, port = server.sockets[0].getsockname()[:2]
            connection = conn.AIOKafkaConnection(host, port)
            _, connection._writer = await asyncio.open_connection(host, port)
            connection._versions = {MetadataRequest.API_KEY: (0, 1)}
            connection._writer.transport.abort()
            await connection._writer.wait_closed()
            with pytest.raises(KafkaConnectionError, match="closed"):
                connection.send(MetadataRequest([]))

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(ask())
