"""Dead letters: the records of the `dead` log."""

from dataclasses import dataclass
from typing import Any

import orjson

INGEST = "ingest"
"""The `destination` of an event that ingest rejected."""


@dataclass(slots=True, frozen=True)
class DeadLetter:
    """An envelope given up on, kept with its reason; or an event as it was rejected at ingest."""

    destination: str
    site: str
    reason: str
    """A `Reason`, or for `destination = "ingest"` a `Rejection`."""
    time_ms: int
    offset: int | None
    """Of the event, in the dead letter's own partition; None when ingest rejected it."""
    event: Any
    """The envelope's record as JSON; for a rejected event what was posted, however wrong."""
    detail: str = ""
    endpoint: str | None = None
    request: str = ""
    status: int | None = None
    answer: str = ""
    attempts: int = 0


def encode(letter: DeadLetter) -> bytes:
    """Write a dead letter as JSON."""
    return orjson.dumps(letter)


def decode(value: bytes) -> DeadLetter:
    """Read a dead letter. Raises ValueError."""
    try:
        return DeadLetter(**orjson.loads(value))
    except TypeError as error:
        raise ValueError(str(error)) from error
