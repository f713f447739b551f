"""Reads facts out of the records of the logs: hostile data inside, never an exception. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.model import dead, journal
from gateway.model.dead import Subject
from gateway.model.envelope import Envelope, UnreadableError, decode
from gateway.model.journal import Answer, Attempt, Snapshot
from gateway.model.life import (
    ID_CHARACTERS,
    ID_FIELDS,
    Buried,
    Decided,
    Fate,
    Known,
    Noted,
    Place,
    Step,
    Taken,
)

Routes = Mapping[str, Mapping[str, frozenset[str]]]
"""For each site, for each of its destinations, the event types that it takes.

`recent` among them: it also takes the views derived from `recent` (it needs a contact).
"""
RECENT = "recent"
UNREADABLE = "unreadable"
"""Stands for the type of a record that is no envelope; every destination buries it."""


def read_event(place: Place, time_ms: int, value: bytes, routes: Routes) -> Taken:
    """Read a record of `events`."""
    try:
        return _taken(place, time_ms, value, routes)
    except (UnreadableError, TypeError, AttributeError, ValueError):  # of other types than said
        everyone = sorted({name for names in routes.values() for name in names})
        return Taken(place, time_ms, "", UNREADABLE, "", f"\0{place}", (), tuple(everyone), value)


def _taken(place: Place, time_ms: int, value: bytes, routes: Routes) -> Taken:
    envelope = decode(value)
    ids = list(_ids([envelope.fields()]))
    if envelope.derived:
        ids.append(envelope.derived.cause)
    replay = envelope.replay
    return Taken(
        place=place,
        time_ms=time_ms,
        site=envelope.site,
        type=envelope.type,
        id=envelope.id,
        dedup_key=envelope.dedup_key,
        ids=tuple(dict.fromkeys(ids)),
        destinations=_destinations(envelope, routes),
        record=value,
        replay=Subject(replay.destination, replay.origin, replay.number) if replay else None,
    )


def _destinations(envelope: Envelope, routes: Routes) -> tuple[str, ...]:
    needed = {envelope.type}
    replay = envelope.replay
    if envelope.derived and envelope.derived.kind == "recent":
        needed.add(RECENT)
    taking = routes.get(envelope.site, {})
    names = taking.keys() & {replay.destination} if replay else taking
    return tuple(sorted(name for name in names if needed <= taking[name]))


def read_entry(place: Place, time_ms: int, value: bytes) -> Noted | None:
    """Read a record of `outcomes`; None when it is no entry that this version knows."""
    try:
        return Noted(place, time_ms, journal.decode(value))
    except journal.UnreadableEntryError:
        return None


def read_letter(place: Place, time_ms: int, value: bytes) -> Buried | Decided | None:
    """Read a record of `dead`; None when it is none that this version knows."""
    try:
        letter = dead.decode(value)
    except ValueError:
        return None
    if isinstance(letter, dead.Decision):
        return Decided(place, time_ms, letter)
    layers = list(_layers(letter.event))
    return Buried(
        place=place,
        time_ms=time_ms,
        letter=letter,
        id=_first(layers, "id"),
        type=_first(layers, "type"),
        ids=tuple(_ids(layers)),
        record=value,
    )


def _layers(event: Any) -> Iterable[dict[str, Any]]:
    """Return the objects that may hold ids: an envelope's event and context, or what was posted."""
    if isinstance(event, dict):
        for layer in (event.get("event"), event.get("context"), event):
            if isinstance(layer, dict):
                yield layer


def _first(layers: Sequence[dict[str, Any]], name: str) -> str:
    found = (layer[name] for layer in layers if isinstance(layer.get(name), str))
    return next(found, "")[:ID_CHARACTERS]


def _ids(layers: Iterable[dict[str, Any]]) -> Iterable[str]:
    values = (layer.get(name) for layer in layers for name in ID_FIELDS)
    found = (v for v in values if isinstance(v, str) and 0 < len(v) <= ID_CHARACTERS)
    return dict.fromkeys(found)


def assemble(event: Taken, notes: Sequence[Noted], unknown: str) -> Known:
    """Put together what the index would say of an event, from what was read of the logs.

    `notes` are of its partition, in the log's order. `unknown`: why an outcome may be missing,
    when not all of the outcome log was read.
    """
    steps = [step for note in notes for step in _steps(note, event.place.offset)]
    passed = {note.entry.destination for note in notes if _passed(note, event.place.offset)}
    names = {*event.destinations, *(step.destination for step in steps)}
    return Known(
        place=event.place,
        time_ms=event.time_ms,
        site=event.site,
        type=event.type,
        id=event.id,
        record=event.record,
        fates=tuple(_fate(name, steps, unknown, owed=name not in passed) for name in sorted(names)),
        steps=tuple(steps),
    )


def _fate(name: str, steps: Sequence[Step], unknown: str, *, owed: bool) -> Fate:
    own = [step for step in steps if step.destination == name]
    first = next((step for step in own if step.outcome), None)
    if first:
        return Fate(
            name,
            first.outcome,
            waiting=False,
            reason=first.reason,
            detail=first.detail,
            time_ms=first.time_ms,
        )
    return Fate(
        name, None, waiting=owed, detail=unknown if owed else "", last=own[-1] if own else None
    )


def _passed(note: Noted, offset: int) -> bool:
    entry = note.entry
    if not isinstance(entry, Snapshot) or offset >= entry.next:
        return False
    return all(each.offset != offset for each in entry.open)


def concerns(note: Noted, offset: int) -> bool:
    """Whether an entry says anything of the event at `offset` of its partition."""
    return _passed(note, offset) or any(True for _ in _steps(note, offset))


def ends_with(note: Noted, offset: int) -> set[str]:
    """Return the destination of an entry after which nothing more is owed to that event."""
    done = any(step.outcome for step in _steps(note, offset)) or _passed(note, offset)
    return {note.entry.destination} if done else set()


def _steps(note: Noted, offset: int) -> Iterable[Step]:
    """Return what an entry says of one event."""
    entry, at = note.entry, note.place.offset
    if isinstance(entry, Attempt) and offset in entry.offsets:
        yield Step(
            "attempt", entry.destination, at, entry.time_ms, entry.endpoint, text=entry.request
        )
    if isinstance(entry, Answer):
        made = (entry.destination, at, entry.time_ms, entry.endpoint, entry.status, entry.answer)
        for done in entry.settled:
            if done.offset == offset:
                yield Step("settled", *made, done.outcome, done.reason, done.detail)
        for put_off in entry.postponed:
            if put_off.offset == offset:
                yield Step(
                    "postponed", *made, None, put_off.reason, put_off.detail, put_off.next_ms
                )
