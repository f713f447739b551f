"""The console's JSON: what the ledger knows, as pages and programs get it. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from gateway.ledger import Reading, Searched, Summary, Trace
from gateway.model.chain import Linked
from gateway.model.envelope import Envelope, UnreadableError, decode
from gateway.model.event import MAIL_TYPES
from gateway.model.instant import format_ms
from gateway.model.journal import excerpt
from gateway.model.life import Fate, Handling, Known, Letter, Paused, Place, Standing, Step, explain
from gateway.replay import Result

_MAIL_NAMED_BY = ("orderId", "status", "imbStatus")
_NAMED_BY = ("cartReference", "invoiceId", "itemId", "eventName", "title", "customerId")
_LABEL_CHARACTERS = 120

Json = dict[str, Any]


def event_json(known: Known, heard_ms: Mapping[str, int] | None = None) -> Json:
    """Return an event in short, with its outcomes."""
    heard_ms = heard_ms or {}
    return {
        "place": str(known.place),
        "takenAt": format_ms(known.time_ms),
        "site": known.site,
        "type": known.type,
        "id": known.id,
        "label": _label(known),
        "copyOf": str(known.copy_of) if known.copy_of else None,
        "change": known.change,
        "outcomes": [_fate_json(fate, heard_ms.get(fate.destination)) for fate in known.fates],
    }


def _read(record: bytes) -> Envelope | None:
    try:
        return decode(record)
    except UnreadableError:
        return None


def _label(known: Known) -> str:
    envelope = _read(known.record)
    if envelope is None:
        return "a record that is no event"
    if envelope.type in MAIL_TYPES:
        mail = (envelope.event.get(name) for name in _MAIL_NAMED_BY)
        return " ".join(str(value) for value in mail if value)[:_LABEL_CHARACTERS]
    values = (envelope.event.get(name) for name in _NAMED_BY)
    return next((str(value) for value in values if value), "")[:_LABEL_CHARACTERS]


def _fate_json(fate: Fate, heard_ms: int | None) -> Json:
    return {
        "destination": fate.destination,
        "state": fate.state,
        "reason": fate.reason.value if fate.reason else None,
        "detail": fate.detail,
        "at": _instant(fate.time_ms),
        "nextAt": _instant(fate.last.next_ms) if fate.last else None,
        "explanation": explain(fate, heard_ms),
        "deadLetter": str(fate.letter) if fate.letter else None,
        "handled": _handling_json(fate.handling),
    }


def _handling_json(handling: Handling | None) -> Json | None:
    if handling is None:
        return None
    return {
        "deed": handling.deed.value,
        "at": format_ms(handling.time_ms),
        "replay": str(handling.became) if handling.became else None,
        "explanation": str(handling),
    }


def trace_json(trace: Trace) -> Json:
    """Return a whole trace."""
    return {
        "id": trace.value,
        "events": [life_json(known, trace.heard_ms) for known in trace.events],
        "more": trace.more,
        "behind": [_linked_json(each) for each in trace.behind],
        "behindIds": trace.behind_ids,
        "behindCut": trace.behind_cut,
        "paused": paused_json(trace.paused),
        "deadLetters": [letter_json(letter) for letter in trace.letters],
        "reading": reading_json(trace.reading),
        "searched": _searched_json(trace.searched, trace.heard_ms) if trace.searched else None,
    }


def _linked_json(linked: Linked) -> Json:
    return {
        **event_json(linked.known),
        "happenedAt": format_ms(linked.happened_ms),
        "linkedBy": linked.by,
    }


def life_json(known: Known, heard_ms: Mapping[str, int]) -> Json:
    """Return an event with its receipt and every step."""
    return {
        **event_json(known, heard_ms),
        "receipt": _receipt_json(known),
        "steps": [_step_json(step) for step in known.steps],
        "stepsLeftOut": known.steps_left_out,
    }


def _receipt_json(known: Known) -> Json:
    envelope = _read(known.record)
    if envelope is None:
        return {"raw": excerpt(known.record)}
    derived, replay = envelope.derived, envelope.replay
    return {
        "happenedAt": format_ms(envelope.own_ms),
        "receivedAt": format_ms(envelope.received_ms),
        "correctedTime": format_ms(envelope.corrected_ms),
        "consent": envelope.consent,
        "marks": envelope.marks,
        "derived": {"kind": derived.kind, "cause": derived.cause} if derived else None,
        "replay": {
            "destination": replay.destination,
            "of": str(Place(known.place.partition, replay.origin)),
            "number": replay.number,
            "askedAt": format_ms(replay.asked_ms),
        }
        if replay
        else None,
        "dedupKey": envelope.dedup_key,
        "event": envelope.event,
        "context": envelope.context,
    }


def _step_json(step: Step) -> Json:
    return {
        "kind": step.kind,
        "destination": step.destination,
        "at": format_ms(step.time_ms),
        "endpoint": step.endpoint,
        "status": step.status,
        "text": step.text,
        "outcome": step.outcome.value if step.outcome else None,
        "reason": step.reason.value if step.reason else None,
        "detail": step.detail,
        "nextAt": _instant(step.next_ms),
    }


def _searched_json(searched: Searched, heard_ms: Mapping[str, int]) -> Json:
    return {
        "events": [life_json(known, heard_ms) for known in searched.events],
        "backTo": format_ms(searched.back_to_ms),
        "complete": searched.complete,
        "records": searched.records,
    }


def letter_json(letter: Letter, *, whole: bool = False) -> Json:
    """Return a dead letter; with the event as it was, when it is `whole`."""
    found = letter.letter
    told = {
        "id": str(letter.place),
        "at": format_ms(found.time_ms),
        "destination": found.destination,
        "site": found.site,
        "reason": found.reason,
        "detail": found.detail,
        "eventId": letter.id,
        "eventType": letter.type,
        "eventPlace": f"{letter.place.partition}-{found.offset}"
        if found.offset is not None
        else None,
        "endpoint": found.endpoint,
        "status": found.status,
        "attempts": found.attempts,
        "buried": found.number,
        "state": letter.state,
        "handled": _handling_json(letter.handling),
    }
    if whole:
        told |= {"request": found.request, "answer": found.answer, "event": found.event}
    return told


def result_json(result: Result) -> Json:
    """Return what came of replaying or dropping a letter."""
    return {
        "id": str(result.place),
        "outcome": result.did.value,
        "detail": result.detail,
        "replay": str(result.became) if result.became else None,
    }


def reading_json(reading: Reading) -> Json:
    """Return how far the ledger's knowledge goes."""
    return {
        "since": format_ms(reading.reach_ms),
        "behind": reading.behind,
        "trouble": reading.trouble,
    }


def summary_json(summary: Summary) -> Json:
    """Return how the destinations do."""
    return {
        "now": format_ms(summary.now_ms),
        "reading": reading_json(summary.reading),
        "destinations": [_standing_json(each, summary.now_ms) for each in summary.destinations],
    }


def _standing_json(standing: Standing, now_ms: int) -> Json:
    trouble = standing.trouble
    return {
        "destination": standing.destination,
        "outcomesLastHour": standing.hour,
        "waiting": standing.waiting,
        "oldestWaitingSeconds": _age_seconds(standing.oldest_ms, now_ms),
        "paused": [_paused_json(each) for each in standing.paused],
        "heardSecondsAgo": _age_seconds(standing.heard_ms, now_ms),
        "lastTrouble": {
            "at": format_ms(trouble.time_ms),
            "reason": trouble.reason,
            "detail": trouble.detail,
            "endpoint": trouble.endpoint,
            "status": trouble.status,
        }
        if trouble
        else None,
    }


def paused_json(standings: Iterable[Standing]) -> list[Json]:
    """Return what is paused, for who follows events."""
    return [
        {"destination": each.destination, **_paused_json(paused)}
        for each in standings
        for paused in each.paused
    ]


def _paused_json(paused: Paused) -> Json:
    return {
        "endpoint": paused.endpoint,
        "since": format_ms(paused.since_ms),
        "detail": paused.detail,
    }


def _age_seconds(then_ms: int | None, now_ms: int) -> float | None:
    return None if then_ms is None else max(0, now_ms - then_ms) / 1000


def _instant(instant_ms: int | None) -> str | None:
    return None if instant_ms is None else format_ms(instant_ms)
