"""What the ledger tells, as lines for a terminal. Pure; hostile data can't steer the terminal."""

import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

import orjson

Json = dict[str, Any]

_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]")
"""Control characters, C1 too, and those that hide text or turn its direction."""
_WIDEST = 60
_IDS_SHOWN = 3
"""Of one field, by which a story is linked."""


def plain(text: object) -> str:
    """Return text in which nothing steers the terminal: such characters become escapes."""
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", str(text))


def plain_json(told: Any) -> str:
    """Return compact JSON on one line; the same characters as JSON's own escapes."""
    return plain(orjson.dumps(told).decode())


def _block(text: str) -> Iterator[str]:
    """Yield an excerpt, indented; JSON line by line."""
    with suppress(ValueError):  # no JSON, or cut: shown as it is
        text = orjson.dumps(orjson.loads(text), option=orjson.OPT_INDENT_2).decode()
    for line in text.split("\n"):
        yield f"      {plain(line)}"


def table(rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Yield rows with their columns aligned; a column that is too wide pushes the rest on."""
    cells = [[plain(cell) for cell in row] for row in rows]
    widths = [min(_WIDEST, max(map(len, column))) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(padded).rstrip()


def news_lines(event: Json, shown: dict[str, set[str]]) -> Iterator[str]:
    """Yield what is new of an event: itself the first time, then each outcome once."""
    place = event["place"]
    seen = shown.get(place)
    head = f"{_clock(event['takenAt'])}  {plain(event['type']):<10}"
    name = plain(event["id"] or place)
    if seen is None:
        seen = shown[place] = set()
        _forget(shown)
        copy = f"  copy of {event['copyOf']}" if event["copyOf"] else ""
        yield f"{head} {name}  {plain(event['site'])}  {plain(event['label'])}{copy}".rstrip()
    for fate in event["outcomes"]:
        told = fate["explanation"]
        untold = fate["state"] == "passed" or told.startswith("not attempted yet")
        key = f"{fate['destination']} {told}"
        if key not in seen and not untold:
            seen.add(key)
            word = "" if told.startswith(fate["state"]) else f"{fate['state']}: "
            yield f"{head} {name}  {plain(fate['destination'])} {word}{plain(told)}"


def pause_lines(now: Sequence[Json], shown: set[str]) -> Iterator[str]:
    """Yield what is paused by now, and what goes on again, each once."""
    paused = {plain(f"{each['destination']} {each['endpoint']}"): each for each in now}
    for name in sorted(shown - paused.keys()):
        shown.discard(name)
        yield f"{name} goes on again"
    for name in sorted(paused.keys() - shown):
        shown.add(name)
        each = paused[name]
        yield f"{name} IS PAUSED since {_clock(each['since'])}: {plain(each['detail'])}"


def _forget(shown: dict[str, set[str]]) -> None:
    """Keep the memory of a tail that runs for days small."""
    while len(shown) > 10_000:  # noqa: PLR2004 - of no account, as long as it is a bound
        del shown[next(iter(shown))]


def _clock(instant: str) -> str:
    return plain(instant).replace("T", " ")


def trace_lines(told: Json) -> Iterator[str]:
    """Yield a trace, event by event, and how far was looked."""
    searched = told["searched"]
    for letter in told["deadLetters"]:
        if letter["destination"] == "ingest":
            yield f"{_clock(letter['at'])}  rejected at ingest: {plain(letter['reason'])}" + (
                f": {plain(letter['detail'])}" if letter["detail"] else ""
            )
            yield f"  gateway dead-letters show {letter['id']}"
            yield ""
    events = told["events"] + (searched["events"] if searched else [])
    for event in events:
        yield from _life_lines(event)
        yield ""
    yield from _behind_lines(told)
    yield from pause_lines(told["paused"], set())
    if not events and not told["deadLetters"]:
        yield f"nothing found for {plain(told['id'])}"
    yield from _reach_lines(told, searched)


def _behind_lines(told: Json) -> Iterator[str]:
    """Yield what led to a sale, the oldest first."""
    if not told["behind"]:
        return
    yield "behind the sale"
    yield from (f"  {line}" for line in table(_id_rows(told["behindIds"])))
    rows = [
        (_clock(each["happenedAt"]), each["type"], each["id"], each["label"], _linked_by(each))
        for each in told["behind"]
    ]
    yield from (f"  {line}" for line in table(rows))
    if told["behindCut"]:
        yield "  … and more: some of these ids are shared by many events"
    yield ""


def _id_rows(ids: Json) -> list[tuple[str, str]]:
    """Return each field with its values; of many, how many more there are."""
    rows = []
    for name, values in ids.items():
        more = f" and {len(values) - _IDS_SHOWN} more" if len(values) > _IDS_SHOWN else ""
        rows.append((name, ", ".join(values[:_IDS_SHOWN]) + more))
    return rows


def _linked_by(event: Json) -> str:
    return f"by {', '.join(event['linkedBy'])}"


def _life_lines(event: Json) -> Iterator[str]:
    receipt = event["receipt"]
    yield f"{plain(event['type'])} {plain(event['id'] or event['place'])}  {plain(event['label'])}"
    if "receivedAt" in receipt:
        marks = f", marks {', '.join(map(plain, receipt['marks']))}" if receipt["marks"] else ""
        yield (
            f"  {_clock(receipt['receivedAt'])}  received from {plain(event['site'])},"
            f" consent {plain(receipt['consent'])}{marks}"
        )
    if receipt.get("derived"):
        derived = receipt["derived"]
        yield f"  made by ingest ({plain(derived['kind'])}) from {plain(derived['cause'])}"
    if receipt.get("replay"):
        replay = receipt["replay"]
        again = f"replay {replay['number']} of {replay['of']}, for"
        yield f"  {_clock(replay['askedAt'])}  {again} {plain(replay['destination'])} alone"
    yield f"  {_clock(event['takenAt'])}  durable in the log at {event['place']}"
    if event["copyOf"]:
        yield f"  a copy: the first with the same key is {event['copyOf']}"
    if event["stepsLeftOut"]:
        yield f"  … {event['stepsLeftOut']} earlier steps"
    for step in event["steps"]:
        yield from _step_lines(step)
    if not event["outcomes"]:
        yield "  no destination of this site takes its type"
    yield from (f"  {line}" for line in table([_fate_row(fate) for fate in event["outcomes"]]))


def _fate_row(fate: Json) -> tuple[str, str, str]:
    told = fate["explanation"].removeprefix(fate["state"]).strip(" :")
    letter = f"  (gateway dead-letters show {fate['deadLetter']})" if fate["deadLetter"] else ""
    return fate["destination"], fate["state"].upper(), told + letter


def _step_lines(step: Json) -> Iterator[str]:
    made = " → ".join(plain(part) for part in (step["endpoint"], step["status"]) if part)
    what = {"attempt": "request", "postponed": "failed"}.get(step["kind"], step["outcome"])
    why = ": ".join(plain(part) for part in (step["reason"], step["detail"]) if part)
    again = f"; next attempt from {_clock(step['nextAt'])}" if step["nextAt"] else ""
    yield (
        f"  {_clock(step['at'])}  {plain(step['destination'])} {plain(what)}"
        f" {made}{' ' if why else ''}{why}{again}"
    ).rstrip()
    if step["text"]:
        yield from _block(step["text"])


def _reach_lines(told: Json, searched: Json | None) -> Iterator[str]:
    reading = told["reading"]
    behind = f", {reading['behind']} records behind the logs" if reading["behind"] else ""
    yield f"the index reaches back to {_clock(reading['since'])}{behind}"
    if reading["trouble"]:
        yield f"the console can't read on: {plain(reading['trouble'])}"
    if told["more"]:
        yield "there are more events with this id than are shown"
    if searched is None:
        yield "older: gateway trace --older ID"
    elif searched["complete"]:
        yield f"the logs before it were read to their beginning ({searched['records']} records)"
    else:
        back = searched["backTo"]
        yield f"the logs before it were read back to {_clock(back)} ({searched['records']} records)"
        yield f"further: gateway trace --before {plain(back)} ID"


def letter_table(letters: Sequence[Json]) -> Iterator[str]:
    """Yield a list of dead letters."""
    if not letters:
        yield "no dead letter"
        return
    head = ("ID", "BURIED", "DESTINATION", "REASON", "TYPE", "EVENT", "STATE", "WHY")
    yield from table([head, *map(_letter_row, letters)])


def _letter_row(letter: Json) -> tuple[str, ...]:
    why = " ".join(str(part) for part in (letter["status"], letter["detail"]) if part)
    names = ("destination", "reason", "eventType", "eventId", "state")
    return (letter["id"], _clock(letter["at"]), *(letter[name] for name in names), why)


def letter_lines(letter: Json) -> Iterator[str]:
    """Yield one dead letter."""
    names = ("id", "at", "destination", "site", "reason", "detail", "eventType", "eventId")
    more = ("eventPlace", "endpoint", "status", "attempts", "buried")
    rows = [(name, letter[name]) for name in names + more if letter[name] not in {None, ""}]
    handled = letter["handled"]
    yield from table([*rows, ("state", handled["explanation"] if handled else letter["state"])])
    for name in ("request", "answer"):
        if letter[name]:
            yield f"{name}:"
            yield from _block(letter[name])
    yield "event:"
    yield from _block(orjson.dumps(letter["event"]).decode())
