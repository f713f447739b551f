"""The client library's errors, turned into the port's at this edge; and its log, kept in bounds."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiokafka.errors import KafkaError

from gateway.ports import BufferUnavailableError

_log = logging.getLogger("gateway.buffer")

TROUBLE_SECONDS = 5.0
"""What passes sooner is not worth a line: a fresh topic, a new group."""
AGAIN_SECONDS = 30.0
"""Between two lines about trouble that goes on; without a word for so long it is over."""


@asynccontextmanager
async def bounded(seconds: float, what: str) -> AsyncIterator[None]:
    """Bound what is done inside, and turn its errors into BufferUnavailableError.

    `what` begins the sentence: "Kafka at kafka:9092: reading". A time-out means: not known.
    """
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise BufferUnavailableError(f"{what}: no answer within {seconds:g} s") from error
    except (KafkaError, OSError) as error:
        raise BufferUnavailableError(f"{what}: {words(error)}") from error


def words(error: BaseException) -> str:
    """Return an error in one line."""
    return " ".join(str(error).split()) or type(error).__name__


class LibraryLog(logging.Handler):
    """Takes the place of the library's own log lines, of which an outage makes thousands.

    While trouble goes on there is one line about it every half minute, never a traceback.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last = ""
        """The last thing that it said: why a connection failed, which its errors don't tell."""
        self._since = 0.0
        self._seen = float("-inf")
        self._said = float("-inf")

    def install(self) -> None:
        """Take over the library's logger."""
        logger = logging.getLogger("aiokafka")
        logger.handlers[:] = [self]
        logger.propagate = False

    def emit(self, record: logging.LogRecord) -> None:
        """Remember it, and say it if the trouble goes on."""
        now = time.monotonic()
        self.last = " ".join(record.getMessage().split())
        if record.levelno < logging.ERROR:
            return
        if now - self._seen > AGAIN_SECONDS:
            self._since = now
        self._seen = now
        if now - self._since >= TROUBLE_SECONDS and now - self._said >= AGAIN_SECONDS:
            self._said = now
            _log.warning("Kafka: %s", self.last)
