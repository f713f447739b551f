"""What the use cases need of the outside: small Protocols, and the errors that cross them.

BufferFailedError           what a caller of the buffer cannot carry on past
  BufferUnavailableError    not written, or not known whether; the same publish may be tried again
    BufferFullError         no room: retention may not take what is still needed
  BufferUnusableError       what is there cannot be opened; trying again is of no use
  RecordsGoneError          an offset below the oldest that the log holds
  AssignmentLostError       the partition belongs to another member; nothing may be sent for it
IndexFailedError            the ledger's index can't be written or read, or a question took too long
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from gateway.model.attempt import Answered, Item, Reply, Request, Skip, Unanswered
from gateway.model.dead import Subject
from gateway.model.envelope import Envelope
from gateway.model.life import (
    Fact,
    Filters,
    Handling,
    Known,
    Letter,
    LetterFilters,
    Place,
    Standing,
)


class Log(StrEnum):
    """The four logs; the gateway keeps nothing anywhere else."""

    EVENTS = "events"
    OUTCOMES = "outcomes"
    DEAD = "dead"
    STATE = "state"


class Draft(NamedTuple):
    """A record to be published. `key` is for the `state` log, which keeps the last of each.

    There an empty value removes the key; readers may see it once more, with that empty value.
    """

    partition: int
    value: bytes
    key: bytes = b""


class Record(NamedTuple):
    """A record as read. `time_ms` is the log's own clock; it never falls within a partition."""

    partition: int
    offset: int
    time_ms: int
    value: bytes
    key: bytes = b""


class Span(NamedTuple):
    """The offsets that a partition holds: `first` inclusive, `next` exclusive."""

    first: int
    next: int


class Position(NamedTuple):
    """A destination's place in a partition of `events`: all below `offset` have their outcome.

    What is done or in flight from there on is read in `outcomes` from `outcomes_offset` on.
    """

    offset: int
    outcomes_offset: int


class BufferFailedError(Exception):
    """The root of what a buffer raises."""


class BufferUnavailableError(BufferFailedError):
    """Not acknowledged, perhaps written. Publishing again makes copies (rule 2)."""


class BufferFullError(BufferUnavailableError):
    """`max_bytes` is reached and nothing may be removed (rule 5)."""


class BufferUnusableError(BufferFailedError):
    """No log of this version: another format, or no log at all. One line says what to do."""


class RecordsGoneError(BufferFailedError):
    """The offset asked for is below the oldest one left, `first`."""

    def __init__(self, first: int) -> None:
        super().__init__(f"the oldest record left is at offset {first}")
        self.first = first


class AssignmentLostError(BufferFailedError):
    """The partition is no longer this member's: stop, and send nothing."""


class Assignment(Protocol):
    """One partition of `events`, owned for one destination; work for it ends with it."""

    @property
    def partition(self) -> int:
        """The partition, in `events` and in `outcomes`."""

    @property
    def ending(self) -> asyncio.Event:
        """Set when it is to be handed over: begin nothing new, finish, write, commit, return."""

    async def committed(self) -> Position | None:
        """Return the last commit, or None when there is none."""

    async def read(self, offset: int, limit: int, wait_seconds: float) -> list[Record]:
        """Return up to `limit` records of `events` from `offset` on, in order.

        Waits up to `wait_seconds` for the first one; then the list is empty.
        Raises RecordsGoneError, BufferUnavailableError.
        """

    async def commit(self, position: Position) -> None:
        """Store the position durably. Raises AssignmentLostError, BufferUnavailableError."""

    async def confirm(self) -> None:
        """Return only if the partition is still owned, as the buffer itself sees it (rule 4).

        Raises AssignmentLostError, BufferUnavailableError.
        """


class Buffer(Protocol):
    """The durable hand-over between ingest and deliver: logs, split into partitions."""

    @property
    def partitions(self) -> int:
        """How many partitions each log has."""

    async def start(self) -> None:
        """Open.

        Raises BufferUnavailableError or BufferUnusableError, with one line that says what to do.
        """

    async def stop(self) -> None:
        """Finish what is in flight and close."""

    async def publish(self, log: Log, drafts: Sequence[Draft]) -> list[int]:
        """Return each draft's offset once all of them are durable (rule 1).

        Concurrent calls share one write. Raises BufferUnavailableError, BufferFullError.
        """

    async def read(self, log: Log, partition: int, offset: int, limit: int) -> list[Record]:
        """Return up to `limit` records from `offset` on; an empty list at the end.

        `state` may leave out records whose key has a later one. Raises RecordsGoneError
        (not for `state`), BufferUnavailableError.
        """

    async def span(self, log: Log, partition: int) -> Span:
        """Return the offsets held. Raises BufferUnavailableError."""

    async def offset_at(self, log: Log, partition: int, time_ms: int) -> int:
        """Return the first offset taken by the log at `time_ms` or later (the end if none)."""

    async def consume(
        self, destination: str, own: Callable[[Assignment], Awaitable[None]], ending: asyncio.Event
    ) -> None:
        """Run `own` once for each partition of `events` assigned to this member, until `ending`.

        On `ending`, or when a partition is to be handed over, its `ending` is set and `own`
        is awaited. When `own` raises, that error ends this call after the others were ended;
        only an AssignmentLostError of an assignment that was lost ends no more than that one.
        """


class IndexFailedError(Exception):
    """The index can't be written or read now, or a question took too long; says which."""


class Mark(NamedTuple):
    """How far a partition of a log has been read: all below `next`; `time_ms` is the last one's."""

    next: int
    time_ms: int


class Page(NamedTuple):
    """Some of what was asked for, and the cursor for what follows; None when nothing does."""

    events: tuple[Known, ...] = ()
    letters: tuple[Letter, ...] = ()
    cursor: str | None = None


class Index(Protocol):
    """What the ledger has read of the logs, to be looked up. A cache: it may be lost at any time.

    It is bounded; the oldest is removed first. Everything raises IndexFailedError.
    """

    async def start(self, routes: str, since_ms: int) -> Mapping[tuple[Log, int], Mark]:
        """Open; return how far each partition of each log has been taken in.

        `routes` is any text that changes with what destinations take: another one than last time
        makes it begin anew, which is: with nothing taken in, reaching back to `since_ms`.
        """

    async def stop(self) -> None:
        """Close."""

    async def clear(self, since_ms: int) -> None:
        """Begin anew."""

    async def put(self, log: Log, partition: int, mark: Mark, facts: Sequence[Fact]) -> None:
        """Take in the next records of a partition and the new mark, both or neither.

        Outcomes may come before their events; the first outcome in the log counts.
        """

    async def forget(self, events_ms: int, letters_ms: int) -> None:
        """Erase what the logs no longer hold.

        That is events and what became of them before `events_ms`, and dead letters before
        `letters_ms`, both by the log's time.
        """

    async def reach_ms(self) -> int:
        """Return since when everything that the log took, and was read so far, is held."""

    async def find(self, value: str, limit: int) -> list[Known]:
        """Return the events that bear an id, or stand at that place, newest first, with steps."""

    async def events(self, filters: Filters, cursor: str | None, limit: int) -> Page:
        """Return events newest first, without steps; `cursor` continues a page."""

    async def changes(self, cursor: str | None, limit: int) -> Page:
        """Return events of which more became known since `cursor`, oldest change first.

        Without a cursor, or with one from before the index began anew: the newest events.
        The page's cursor is never None.
        """

    async def letters(self, filters: LetterFilters, cursor: str | None, limit: int) -> Page:
        """Return dead letters newest first."""

    async def letter(self, place: Place) -> Letter | None:
        """Return a dead letter by its place in `dead`."""

    async def handling(self, partition: int, subject: Subject) -> Handling | None:
        """Return what was done about a dead letter, also where the letter is held no more."""

    async def find_letters(self, value: str, limit: int) -> list[Letter]:
        """Return the dead letters that bear an id, newest first."""

    async def standings(self, now_ms: int) -> list[Standing]:
        """Return how each destination does that the index has heard of."""


class Clock(Protocol):
    """The wall clock. Durations are measured by the event loop's clock instead."""

    def now_ms(self) -> int:
        """Milliseconds since the epoch."""


class HttpClient(Protocol):
    """One HTTP exchange; every failure is a value. Shared by the destinations, given by wiring."""

    async def exchange(
        self, method: str, url: str, headers: dict[str, str], body: bytes, timeout_seconds: float
    ) -> Answered | Unanswered:
        """Send and return the answer (its body cut at a bound), or why there is none."""


class Hook(StrEnum):
    """What came of a webhook; what is signed and can't be used is answered well all the same."""

    TAKEN = "taken"  # an event, now durable
    KNOWN = "known"  # nothing new in it
    UNUSED = "unused"  # of a kind that makes no event
    UNREADABLE = "unreadable"  # signed, but not as documented: sending it again would not help
    WRONG_SIGNATURE = "wrong_signature"
    STALE = "stale"  # signed too long ago to be believed
    UNAVAILABLE = "unavailable"  # not durable: to be sent again


class Source(Protocol):
    """What events come from besides the collector."""

    async def receive(self, body: bytes, headers: Mapping[str, str]) -> Hook:
        """Take a webhook in; what it brings is durable when this returns (rule 1).

        `headers` finds names in any case.
        """


class Destination(Protocol):
    """An outside system that receives batches."""

    @property
    def needs_contact(self) -> bool:
        """Whether it takes `recent` views, which are made for destinations that need a contact."""

    @property
    def cart_step_ms(self) -> int:
        """The precision of the time it is sent: a cart's times rise by at least this much."""

    def prepare(self, envelope: Envelope, time_ms: int) -> Item | Skip:
        """Make an envelope ready, or say why there is nothing to send. Pure.

        `time_ms` is the time to send: for a cart strictly rising (rule 3), else `corrected_ms`.
        """

    def batch_limit(self, kind: str) -> int:
        """Return how many items of a kind one request may carry (1: no batches)."""

    def request(self, items: Sequence[Item]) -> Request:
        """Return the request for items of one kind, within `batch_limit`. Pure."""

    async def send(self, request: Request) -> Reply:
        """Make the request once. What can go wrong is in the verdicts, not raised."""

    async def start(self) -> None:
        """Open what it needs (a file, a folder). Raises OSError with a plain message."""

    async def stop(self) -> None:
        """Close it."""
