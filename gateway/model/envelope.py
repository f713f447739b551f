"""An envelope: an event, and what is known of its receipt. What the `events` log holds.

The event and its context stand beside each other as they came (checked, personal fields dropped
where consent asks for it); `fields` says which value wins.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from gateway.model.attempt import Tried
from gateway.model.instant import format_ms, moment_of, parse_ms

FORMAT = 1
"""Written into each record, so that a later version can tell what it reads."""
_LATEST_MS = 253_402_300_800_000
"""The year 10000: no instant from then on can be written as a date."""


class UnreadableError(ValueError):
    """The bytes are no envelope that this version knows."""


@dataclass(slots=True, frozen=True)
class Derived:
    """Made by ingest: `close` empties a sale's cart, `recent` is a view from before the contact."""

    kind: Literal["close", "recent"]
    cause: str
    """The id of the event that it was made from."""


@dataclass(slots=True, frozen=True)
class Replay:
    """A dead letter's event, published again for the destination that had buried it."""

    destination: str
    origin: int
    """The offset of the first record in the same partition: it stands at that one's place."""
    number: int
    """How often it had been buried."""
    asked_ms: int
    """When it was first asked for."""
    tried: Tried = Tried.NEVER
    """What was known of the requests made before."""


@dataclass(slots=True, frozen=True)
class Envelope:
    """An accepted event.

    `corrected_ms` is when it happened by a clock that can be trusted: the event's own time, or,
    where `sentAt` showed a clock more than 60 s wrong, the receipt minus the event's age.
    """

    site: str
    dedup_key: str
    received_ms: int
    corrected_ms: int
    consent: Literal["full", "limited"]
    event: dict[str, Any]
    context: dict[str, Any] = field(default_factory=dict)
    derived: Derived | None = None
    marks: tuple[str, ...] = ()
    """Remarks from a closed set: `clock` (time corrected), `server` (a server key), `bot`,
    `prerender` (sent while a browser rendered the page ahead of a visit)."""
    replay: Replay | None = None

    @property
    def type(self) -> str:
        """The event's type."""
        return str(self.event["type"])

    @property
    def id(self) -> str:
        """The client's id of the event."""
        return str(self.event["id"])

    @property
    def own_ms(self) -> int:
        """When it happened by the sender's own clock."""
        return parse_ms(self.event["time"])

    @property
    def sender(self) -> str | None:
        """The browser that sent it, if it may be known: two updates of one can be put in order."""
        fields = self.fields()
        sender = fields.get("visitorId") or fields.get("sessionId")
        return str(sender) if sender else None

    def fields(self) -> dict[str, Any]:
        """Every field of the event: its own value wins over the context's, null means none.

        A cart's `url` is the link back to the cart, so it is never the page's.
        """
        merged = {**self.context, **self.event}
        if self.event["type"] == "cart" and "url" not in self.event:
            merged.pop("url", None)
        return {name: value for name, value in merged.items() if value is not None}

    def public(self) -> dict[str, Any]:
        """Return the event as webhook and file get it: flat, every field, and its receipt."""
        out = self.fields()
        out["site"] = self.site
        out["receivedAt"] = format_ms(self.received_ms)
        out["consent"] = self.consent
        if self.derived:
            out["derived"] = {"kind": self.derived.kind, "cause": self.derived.cause}
        if self.marks:
            out["marks"] = list(self.marks)
            if "clock" in self.marks:
                out["correctedTime"] = format_ms(self.corrected_ms)
        return out


class Writer:
    """Writes records' values, as compact JSON. What a request's envelopes share, it writes once."""

    __slots__ = ("_head",)

    def __init__(
        self,
        site: str,
        received_ms: int,
        consent: Literal["full", "limited"],
        context: dict[str, Any],
        marks: tuple[str, ...],
    ) -> None:
        head: dict[str, Any] = {
            "v": FORMAT,
            "site": site,
            "received": received_ms,
            "consent": consent,
            "context": context,
        }
        if marks:
            head["marks"] = marks
        self._head = orjson.dumps(head)[:-1] + b","

    def write(
        self,
        dedup_key: str,
        corrected_ms: int,
        event: dict[str, Any],
        derived: Derived | None,
        replay: Replay | None = None,
    ) -> bytes:
        """Return the value of one record."""
        rest: dict[str, Any] = {"key": dedup_key, "corrected": corrected_ms, "event": event}
        if derived is not None:
            rest["derived"] = (derived.kind, derived.cause)
        if replay is not None:
            rest["replay"] = replay
        return self._head + orjson.dumps(rest)[1:]


def encode(envelope: Envelope) -> bytes:
    """Write the record's value."""
    writer = Writer(
        envelope.site, envelope.received_ms, envelope.consent, envelope.context, envelope.marks
    )
    return writer.write(
        envelope.dedup_key,
        envelope.corrected_ms,
        envelope.event,
        envelope.derived,
        envelope.replay,
    )


def decode(value: bytes) -> Envelope:
    """Read a record's value. Raises UnreadableError, also where a part is missing or of no use."""
    return envelope_of(read(value))


def read(value: bytes) -> dict[str, Any]:
    """Read a record's parts, checked like `decode`'s, in half the time.

    Raises UnreadableError.
    """
    try:
        parts: dict[str, Any] = orjson.loads(value)
        if parts["v"] != FORMAT:
            raise UnreadableError(f"format {parts['v']!r}, this version reads {FORMAT}")
        _check(parts)
        if len(parts) > _ALWAYS:
            _make(parts)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableError(f"{type(error).__name__}: {error}") from error
    except UnreadableError:
        raise
    except ValueError as error:
        raise UnreadableError(str(error)) from error
    return parts


def envelope_of(parts: dict[str, Any]) -> Envelope:
    """Put together what `read` returned."""
    return Envelope(
        site=parts["site"],
        dedup_key=parts["key"],
        received_ms=parts["received"],
        corrected_ms=parts["corrected"],
        consent=parts["consent"],
        event=parts["event"],
        context=parts["context"],
        derived=parts.get("derived"),
        marks=parts.get("marks", ()),
        replay=parts.get("replay"),
    )


def _check(parts: dict[str, Any]) -> None:
    """Refuse what judging could not stand: a record is written whole, or it is not ours.

    Each record of a window comes by here when that is made anew, so what is quick is chosen.
    """
    event, context = parts["event"], parts["context"]
    texts = [parts["site"], parts["key"], event["type"], event["id"]]
    if event["type"] == "cart":
        texts.append(event["cartReference"])
    "".join(texts)  # raises TypeError where one is no text
    if not all(texts):
        raise UnreadableError("site, key, type, id or cartReference is empty")
    if not isinstance(context, dict) or parts["consent"] not in _CONSENTS:
        raise UnreadableError("context is no object, or consent is none that is known")
    if not (_is_number(parts["received"]) and _is_number(parts["corrected"])):
        raise UnreadableError("an instant is none")
    moment_of(event["time"])


def _make(parts: dict[str, Any]) -> None:
    """Put what a record has only sometimes in the place of its JSON."""
    derived, replay = parts.get("derived"), parts.get("replay")
    parts["derived"] = Derived(*derived) if derived else None
    parts["marks"] = tuple(parts.get("marks", ()))
    parts["replay"] = _replay(replay) if replay else None


def _replay(plain: dict[str, Any]) -> Replay:
    replay = Replay(**{**plain, "tried": Tried(plain["tried"])})
    if not all(map(_is_number, (replay.asked_ms, replay.origin, replay.number))):
        raise UnreadableError("an instant or another number of a replay is none")
    return replay


_CONSENTS = ("full", "limited")
_ALWAYS = 8
"""So many parts each record has; the others are those that `_make` is for."""


def _is_number(value: object) -> bool:
    """Whether it is an instant, or another number of no more than that."""
    return type(value) is int and 0 <= value < _LATEST_MS
