"""Faults of the client library that would end its tasks or fill the log, mended from outside.

Of aiokafka 0.14; each goes when the library has mended it.
"""

from collections.abc import Awaitable
from typing import Any

from aiokafka import AIOKafkaProducer, conn
from aiokafka.errors import KafkaConnectionError, KafkaError
from aiokafka.producer import message_accumulator


def install() -> None:
    """Have every connection and batch that is made from now on be a mended one."""
    conn.AIOKafkaConnection = Connection
    message_accumulator.MessageBatch = Batch


class Connection(conn.AIOKafkaConnection):  # type: ignore[misc]  # it has no types
    """A connection whose closed transport is an error that the library expects.

    uvloop raises RuntimeError where asyncio's own loop says nothing (aiokafka issue 1038): the
    tasks that keep metadata, membership and writes going would end, and nobody would notice.
    """

    def send(self, *args: Any, **options: Any) -> Awaitable[Any]:
        """Send a request; KafkaConnectionError where there is no connection any more."""
        try:
            answer: Awaitable[Any] = super().send(*args, **options)
        except KafkaError:  # they are RuntimeErrors too
            raise
        except RuntimeError as error:
            raise KafkaConnectionError(str(error)) from error
        return answer


class Batch(message_accumulator.MessageBatch):  # type: ignore[misc]  # it has no types
    """A batch that fails without a traceback about a future that nobody waits for."""

    def failure(self, exception: BaseException) -> None:
        """Tell whoever waits."""
        super().failure(exception)
        if not self._drain_waiter.cancelled():
            self._drain_waiter.exception()  # has been looked at


class _Pending(set[Any]):
    def remove(self, batch: object, /) -> None:
        self.discard(batch)


def allow_expiry(producer: AIOKafkaProducer) -> None:
    """Let what a producer has not got through expire, so that stop() ends.

    Batches of an idempotent producer never expire, and stop() waits for them all. There is no
    public way to give them up; a sender that believes itself not idempotent lets them expire. A
    batch that expires while it waits to be sent again was taken off the pending ones already,
    and the library removes it once more.
    """
    producer._sender._txn_manager = None  # noqa: SLF001
    waiting = producer._message_accumulator  # noqa: SLF001
    waiting._pending_batches = _Pending(waiting._pending_batches)  # noqa: SLF001
