"""A dead letter's event as a record of `events` again, for its destination alone. Pure."""

from dataclasses import replace

import orjson

from gateway.model import keys
from gateway.model.dead import DeadLetter, Subject
from gateway.model.envelope import Replay, decode, encode


def record_of(letter: DeadLetter, subject: Subject, asked_ms: int) -> bytes:
    """Return the record to publish. Raises UnreadableError where the letter's event is none.

    `asked_ms`: when it was first asked for; no copy of the record is older.
    """
    envelope = decode(orjson.dumps(letter.event))
    again = Replay(subject.destination, subject.origin, subject.number, asked_ms, letter.tried)
    return encode(replace(envelope, dedup_key=keys.replay_key(subject), replay=again))
