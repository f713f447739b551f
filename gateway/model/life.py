"""What became of an event: the facts that the logs give, and what is known from them. Pure.

Facts go into the index (`Taken`, `Noted`, `Buried`); `Known` and `Letter` come out of it.
"""

import re
from dataclasses import dataclass
from typing import Literal, NamedTuple

from gateway.model.dead import DeadLetter, Decision, Deed, Subject
from gateway.model.instant import format_ms
from gateway.model.journal import Entry
from gateway.model.outcome import Outcome, Reason

ID_CHARACTERS = 200
"""Longer values are not looked up: no field that is an id may be longer (DESIGN's table)."""

ID_FIELDS = (
    "id",
    "cartReference",
    "customerId",
    "contactId",
    "visitorId",
    "sessionId",
    "invoiceId",
    "clickId",
    "mailReference",
    "orderId",
    "trackerId",
)
"""The fields by which a person may ask for an event."""

_PLACE = re.compile(r"(\d{1,9})-(\d{1,18})", re.ASCII)


class Place(NamedTuple):
    """Where a record stands in its log; written `partition-offset`, for people too."""

    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.partition}-{self.offset}"


def parse_place(text: str) -> Place | None:
    """Read `partition-offset`; None when the text is something else."""
    match = _PLACE.fullmatch(text)
    return Place(int(match[1]), int(match[2])) if match else None


@dataclass(slots=True, frozen=True)
class Taken:
    """A record of `events`, and which destinations take its type."""

    place: Place
    time_ms: int
    """When the log took it."""
    site: str
    type: str
    id: str
    dedup_key: str
    ids: tuple[str, ...]
    destinations: tuple[str, ...]
    record: bytes
    replay: Subject | None = None
    """Where it is a replay, of what."""


@dataclass(slots=True, frozen=True)
class Noted:
    """A record of `outcomes`."""

    place: Place
    time_ms: int
    entry: Entry


@dataclass(slots=True, frozen=True)
class Buried:
    """A record of `dead`."""

    place: Place
    time_ms: int
    letter: DeadLetter
    id: str
    type: str
    ids: tuple[str, ...]
    record: bytes


@dataclass(slots=True, frozen=True)
class Decided:
    """A record of `dead` that says what was done about letters."""

    place: Place
    time_ms: int
    decision: Decision


Fact = Taken | Noted | Buried | Decided


@dataclass(slots=True, frozen=True)
class Handling:
    """What was done about a dead letter, last."""

    deed: Deed
    time_ms: int
    became: Place | None = None
    """Its replay's place in `events`, where that is one record and known."""

    def __str__(self) -> str:
        """Say it in words."""
        at = format_ms(self.time_ms)
        if self.deed is Deed.ASKED:
            return f"a replay was asked for at {at}; whether it was published is not known"
        became = f" as {self.became}" if self.became else ""
        return f"{self.deed.value} at {at}{became}"


@dataclass(slots=True, frozen=True)
class Step:
    """Something that a destination did about one event: a request, or what came of it."""

    kind: Literal["attempt", "settled", "postponed"]
    destination: str
    at: int
    """The offset in the outcome log; orders steps of one partition."""
    time_ms: int
    endpoint: str | None = None
    status: int | None = None
    text: str = ""
    """The start of the request, or of the answer."""
    outcome: Outcome | None = None
    reason: Reason | None = None
    detail: str = ""
    next_ms: int | None = None


@dataclass(slots=True, frozen=True)
class Fate:
    """How an event stands with one destination.

    With no outcome it is `waiting`, or else the destination has gone past it and owes nothing:
    it began later in the log (`start = "now"`), or the event is not addressed to it.
    """

    destination: str
    outcome: Outcome | None
    waiting: bool
    reason: Reason | None = None
    detail: str = ""
    """In plain words; without an outcome, why none is known."""
    time_ms: int | None = None
    """When the outcome was written; None without one."""
    last: Step | None = None
    """While it waits: the last thing done about it."""
    letter: Place | None = None
    """Its dead letter's place in `dead`."""
    handling: Handling | None = None
    """What was done about that letter."""

    @property
    def state(self) -> str:
        """The outcome, or `waiting`, or `passed`."""
        if self.outcome:
            return self.outcome.value
        return "waiting" if self.waiting else "passed"


@dataclass(slots=True, frozen=True)
class Known:
    """What is known of one event."""

    place: Place
    time_ms: int
    site: str
    type: str
    id: str
    record: bytes
    fates: tuple[Fate, ...]
    change: int = 0
    """Rises whenever more becomes known of any event."""
    copy_of: Place | None = None
    """The first record known with the same dedup key, when that is another."""
    steps: tuple[Step, ...] = ()
    steps_left_out: int = 0
    """Steps before those, too many to show."""


@dataclass(slots=True, frozen=True)
class Letter:
    """A dead letter and its place in `dead`."""

    place: Place
    time_ms: int
    letter: DeadLetter
    id: str = ""
    type: str = ""
    handling: Handling | None = None
    """None: nothing was done about it yet."""

    @property
    def subject(self) -> Subject:
        """What a replay or a drop of it is about."""
        return self.letter.subject(self.place.offset)

    @property
    def state(self) -> str:
        """`open`, `replayed` or `dropped`; still open where a replay may not have been written."""
        if self.handling is None or self.handling.deed is Deed.ASKED:
            return OPEN
        return self.handling.deed.value


OPEN = "open"
LETTER_STATES = (OPEN, Deed.REPLAYED.value, Deed.DROPPED.value)


class Filters(NamedTuple):
    """Which events, or dead letters, are asked for; None asks for all."""

    site: str | None = None
    type: str | None = None
    outcome: str | None = None
    """An Outcome, or `waiting`."""
    destination: str | None = None

    def match(self, known: Known) -> bool:
        """Whether an event is asked for."""
        if self.site not in {None, known.site} or self.type not in {None, known.type}:
            return False
        fates = [f for f in known.fates if self.destination in {None, f.destination}]
        if self.outcome:
            return any(fate.state == self.outcome for fate in fates)
        return self.destination is None or bool(fates)


class LetterFilters(NamedTuple):
    """Which dead letters are asked for; None asks for all."""

    site: str | None = None
    type: str | None = None
    destination: str | None = None
    reason: str | None = None
    state: str | None = None
    """One of LETTER_STATES."""
    since_ms: int | None = None
    """Buried then or later, by the log's clock."""
    until_ms: int | None = None
    """Buried before."""


@dataclass(slots=True, frozen=True)
class Trouble:
    """The last thing that went wrong at a destination."""

    time_ms: int
    reason: str
    detail: str
    endpoint: str | None
    status: int | None


@dataclass(slots=True, frozen=True)
class Paused:
    """A destination takes no requests of a kind, as by a wrong setting."""

    endpoint: str
    since_ms: int
    detail: str


@dataclass(slots=True, frozen=True)
class Standing:
    """How a destination does."""

    destination: str
    hour: dict[str, int]
    """Outcomes written in the last hour."""
    waiting: int
    """Events in the index without their outcome."""
    oldest_ms: int | None
    """When the log took the oldest of these."""
    heard_ms: int | None
    """When it last wrote to the outcome log."""
    trouble: Trouble | None
    behind: tuple[Place, ...] = ()
    """Per partition, the oldest record that it last called open, or was to read next."""
    paused: tuple[Paused, ...] = ()


def explain(fate: Fate, heard_ms: int | None) -> str:
    """Say in a sentence how an event stands with a destination, and what comes next."""
    if fate.outcome:
        told = _because(fate.outcome.value, fate.reason, fate.detail)
        return f"{told}; {fate.handling}" if fate.handling else told
    if not fate.waiting:
        return "nothing is owed: the destination began later in the log, or is not addressed"
    if fate.detail:
        return fate.detail
    return _last(fate.last) if fate.last else _not_attempted(heard_ms)


def _not_attempted(heard_ms: int | None) -> str:
    if heard_ms is None:
        return "not attempted yet; the destination has written nothing: does deliver run?"
    return f"not attempted yet; the destination last wrote at {format_ms(heard_ms)}"


def _last(step: Step) -> str:
    made = f"{step.endpoint or 'judged'} at {format_ms(step.time_ms)}"
    if step.kind == "attempt":
        return f"request made, no answer written yet: {made}"
    status = f" {step.status}" if step.status is not None else ""
    failed = _because(f"{made} failed:{status}", step.reason, step.detail)
    again = f"; next attempt from {format_ms(step.next_ms)}" if step.next_ms is not None else ""
    return failed + again


def _because(what: str, reason: Reason | None, detail: str) -> str:
    words = [what]
    if reason:
        words.append(f" ({reason.value})")
    if detail:
        words.append(f": {detail}")
    return "".join(words)
