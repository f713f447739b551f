"""The records of the `dead` log: dead letters, and what people decided about them."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple

import orjson

from gateway.model.attempt import Tried

INGEST = "ingest"
"""The `destination` of an event that ingest rejected."""


class Subject(NamedTuple):
    """What is replayed or dropped, within a partition: one burying of one record.

    Two letters may tell of the same one, when a destination was killed while it buried.
    """

    destination: str
    origin: int
    """The offset in `events` of the first record, which its replays stand for; with
    `destination = "ingest"` the letter's own in `dead`."""
    number: int
    """How often it has been buried; 0 for an event rejected at ingest."""


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
    number: int = 1
    """How often this event has been buried at this destination: its replays are numbered by it."""
    origin: int | None = None
    """The offset of the first record, where the one that was buried is a replay."""
    tried: Tried = Tried.NEVER
    """What is known of the requests made for it."""

    def subject(self, own_offset: int) -> Subject:
        """Return what a decision about the letter, at `own_offset` of `dead`, is about."""
        if self.offset is None:
            return Subject(INGEST, own_offset, 0)
        origin = self.offset if self.origin is None else self.origin
        return Subject(self.destination, origin, self.number)


class Deed(StrEnum):
    """What was done about a dead letter."""

    ASKED = "asked"  # a replay is about to be published
    REPLAYED = "replayed"
    DROPPED = "dropped"


@dataclass(slots=True, frozen=True)
class Handled:
    """One letter's part in a decision."""

    destination: str
    origin: int
    number: int
    became: int | None = None
    """The offset in `events` of its replay, where one was published."""

    @property
    def subject(self) -> Subject:
        """What it is about."""
        return Subject(self.destination, self.origin, self.number)


@dataclass(slots=True, frozen=True)
class Decision:
    """What a person had done about dead letters of the record's partition."""

    deed: Deed
    time_ms: int
    letters: tuple[Handled, ...]


def encode(record: DeadLetter | Decision) -> bytes:
    """Write a record as JSON."""
    return orjson.dumps(record)


def decode(value: bytes) -> DeadLetter | Decision:
    """Read a record. Raises ValueError."""
    try:
        plain = orjson.loads(value)
        if "deed" in plain:
            letters = tuple(Handled(**each) for each in plain["letters"])
            return Decision(Deed(plain["deed"]), plain["time_ms"], letters)
        return DeadLetter(**{**plain, "tried": Tried(plain.get("tried", Tried.NEVER))})
    except (TypeError, KeyError) as error:
        raise ValueError(str(error)) from error


def decode_letter(value: bytes) -> DeadLetter:
    """Read a dead letter. Raises ValueError, also where the record is a decision."""
    record = decode(value)
    if isinstance(record, Decision):
        raise ValueError("a decision, not a dead letter")  # noqa: TRY004 - of the wrong value
    return record
