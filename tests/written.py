"""Records for logs made by hand, and a clock that stands where the test puts it."""

from typing import Any

from gateway.model import dead, envelope, journal
from gateway.model.dead import DeadLetter
from gateway.model.envelope import Derived, Envelope
from gateway.model.instant import format_ms, parse_ms
from gateway.model.journal import Answer, Attempt, Entry, Postponed, Settled
from gateway.model.outcome import Outcome, Reason
from gateway.ports import Buffer, Draft, Log

NOON = parse_ms("2026-11-21T12:00:00Z")


class SetClock:
    """The `Clock` port; the test sets the time."""

    def __init__(self, ms: int = NOON) -> None:
        self.ms = ms

    def now_ms(self) -> int:
        return self.ms


def event(event_id: str, kind: str = "cart", at_ms: int = NOON, **fields: Any) -> Envelope:
    """Return an envelope of the site `shop` that was received at `at_ms`."""
    happened = {"id": event_id, "type": kind, "time": format_ms(at_ms - 500), **fields}
    if kind == "cart":
        happened.setdefault("cartReference", f"cart-of-{event_id}")
    return Envelope(
        site="shop",
        dedup_key=f"shop/{event_id}",
        received_ms=at_ms,
        corrected_ms=at_ms - 500,
        consent="full",
        event=happened,
        context={"visitorId": "v-1", "sessionId": "s-1"},
    )


def derived(event_id: str, cause: str, **fields: Any) -> Envelope:
    """Return the emptied cart of a sale."""
    made = event(event_id, **fields)
    return Envelope(
        site=made.site,
        dedup_key=f"close/{cause}",
        received_ms=made.received_ms,
        corrected_ms=made.corrected_ms,
        consent=made.consent,
        event=made.event,
        derived=Derived("close", cause),
    )


def attempt(*offsets: int, destination: str = "voyado", at_ms: int = NOON + 1000) -> Attempt:
    return Attempt(destination, offsets, "POST carts", '{"cart": 1}', at_ms)


def delivered(*offsets: int, destination: str = "voyado", at_ms: int = NOON + 2000) -> Answer:
    done = tuple(Settled(offset, Outcome.DELIVERED) for offset in offsets)
    return Answer(destination, at_ms, done, (), "POST carts", "carts", 200, '{"ok": true}')


def judged(
    offset: int, outcome: Outcome, reason: Reason | None = None, destination: str = "voyado"
) -> Answer:
    """Return an outcome that needed no request."""
    return Answer(destination, NOON + 2000, (Settled(offset, outcome, reason),))


def postponed(offset: int, destination: str = "voyado", at_ms: int = NOON + 2000) -> Answer:
    again = Postponed(offset, Reason.UNAVAILABLE, at_ms + 60_000, "Service Unavailable")
    return Answer(destination, at_ms, (), (again,), "POST carts", "carts", 503, "try later")


def letter(offset: int | None, made: Envelope, destination: str = "voyado") -> DeadLetter:
    """Return the dead letter of an envelope, or of an event that ingest rejected."""
    return DeadLetter(
        destination=destination,
        site="shop",
        reason="refused" if offset is not None else "missing_field",
        time_ms=NOON + 3000,
        offset=offset,
        event={"event": made.event, "context": made.context},
        detail="items[0].sku is unknown",
        endpoint="POST carts",
        request='{"cart": 1}',
        status=400,
        answer='{"error": "sku"}',
        attempts=1,
    )


async def take(buffer: Buffer, *envelopes: Envelope, partition: int = 0) -> list[int]:
    """Publish events."""
    drafts = [Draft(partition, envelope.encode(each)) for each in envelopes]
    return await buffer.publish(Log.EVENTS, drafts)


async def note(buffer: Buffer, *entries: Entry, partition: int = 0) -> None:
    """Publish entries of the outcome log."""
    drafts = [Draft(partition, journal.encode(each)) for each in entries]
    await buffer.publish(Log.OUTCOMES, drafts)


async def bury(buffer: Buffer, *letters: DeadLetter, partition: int = 0) -> None:
    """Publish dead letters."""
    await buffer.publish(Log.DEAD, [Draft(partition, dead.encode(each)) for each in letters])
