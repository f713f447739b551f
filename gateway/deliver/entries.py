"""What a worker writes: outcome-log entries and dead letters, made from what it knows. Pure."""

from collections.abc import Sequence
from typing import TypedDict

import orjson

from gateway.deliver.judge import Judged
from gateway.deliver.lanes import Entry
from gateway.model import envelope
from gateway.model.attempt import Done, Reply, Request
from gateway.model.dead import DeadLetter
from gateway.model.envelope import Envelope
from gateway.model.journal import Answer, Attempt, Postponed, Settled, excerpt
from gateway.ports import Record


def announce(destination: str, batch: Sequence[Entry], request: Request, now_ms: int) -> Attempt:
    """Return what is written before a request is made."""
    offsets = tuple(entry.offset for entry in batch)
    return Attempt(destination, offsets, request.endpoint, excerpt(request.body), now_ms)


def answer(
    destination: str,
    now_ms: int,
    settled: Sequence[Settled],
    postponed: Sequence[Postponed] = (),
    exchange: tuple[Request, Reply] | None = None,
) -> Answer:
    """Return what is written of outcomes; `exchange` where a request led to them."""
    if exchange is None:
        return Answer(destination, now_ms, tuple(settled), tuple(postponed))
    request, reply = exchange
    return Answer(
        destination,
        now_ms,
        tuple(settled),
        tuple(postponed),
        request.endpoint,
        request.items[0].kind,
        reply.status,
        reply.answer,
    )


def letter(
    destination: str,
    entry: Entry,
    outcome: Settled,
    now_ms: int,
    exchange: tuple[Request, Reply] | None,
) -> DeadLetter:
    """Return the dead letter of an entry; `exchange` where a request led to it."""
    request, reply = exchange or (None, None)
    return DeadLetter(
        destination=destination,
        site=entry.envelope.site,
        reason=str(outcome.reason),
        time_ms=now_ms,
        offset=entry.offset,
        event=orjson.loads(envelope.encode(entry.envelope)),
        detail=outcome.detail,
        endpoint=request.endpoint if request else None,
        request=excerpt(request.body) if request else "",
        status=reply.status if reply else None,
        answer=reply.answer if reply else "",
        attempts=entry.attempts,
        tried=entry.item.tried,
        **_counted(entry.envelope),
    )


def unsent_letter(
    destination: str, record: Record, judged: Judged, done: Done, now_ms: int
) -> DeadLetter:
    """Return the dead letter of a record that is buried without an attempt."""
    known = judged.envelope
    return DeadLetter(
        destination=destination,
        site=known.site if known else "",
        reason=str(done.reason),
        time_ms=now_ms,
        offset=record.offset,
        event=orjson.loads(record.value) if known else excerpt(record.value),
        detail=done.detail,
        **_counted(known),
    )


class _Count(TypedDict, total=False):
    number: int
    origin: int


def _counted(known: Envelope | None) -> _Count:
    """Return how often it has been buried now, and where it began."""
    replay = known.replay if known else None
    return {"number": replay.number + 1, "origin": replay.origin} if replay else {}
