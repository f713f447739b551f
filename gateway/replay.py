"""The use case: replay dead letters, or drop them. What was decided is kept in the `dead` log.

A replay is published in three steps: that it was asked for, the record itself, that it was
published. Whoever asks again finds the last and does nothing; finds only the first, and publishes
again with the instant that stands there, so that deliver can tell (rule 2) whether its window
still reaches a copy. Two that ask at once publish copies, and copies are duplicates.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol

from gateway.model import dead
from gateway.model.dead import INGEST, DeadLetter, Decision, Deed, Handled
from gateway.model.envelope import UnreadableError
from gateway.model.life import OPEN, Letter, Place
from gateway.model.replay import record_of
from gateway.ports import Buffer, Clock, Draft, Log

MOST_LETTERS = 500
"""At one go."""


class Did(StrEnum):
    """What came of asking for one letter."""

    REPLAYED = "replayed"
    DROPPED = "dropped"
    ALREADY = "already"  # replayed or dropped before
    REJECTED = "rejected"  # by ingest, again
    NOT_FOUND = "not_found"
    IMPOSSIBLE = "impossible"  # nobody would take it, or it can't be read


class Result(NamedTuple):
    """What came of one letter."""

    place: Place
    did: Did
    detail: str = ""
    became: Place | None = None
    """Where its replay stands in `events`."""


class Checked(NamedTuple):
    """What ingest's checks said of an event that it had rejected before."""

    accepted: bool
    detail: str = ""


class Letters(Protocol):
    """What the ledger knows of dead letters."""

    async def catch_up(self, log: Log) -> None:
        """Take in all that a log holds by now."""

    async def letter(self, place: Place) -> Letter | None:
        """Return a dead letter, with what was done about it."""


Check = Callable[[DeadLetter], Awaitable[Checked]]
"""Takes a rejected event through ingest's checks again. Raises BufferUnavailableError."""
Takers = Mapping[str, Mapping[str, frozenset[str]]]
"""The types that each destination of each site takes."""


class Replay:
    """`replay` and `drop`, one at a time; both raise IndexFailedError, BufferFailedError."""

    def __init__(
        self, letters: Letters, buffer: Buffer, clock: Clock, takers: Takers, check: Check
    ) -> None:
        self._letters = letters
        self._buffer = buffer
        self._clock = clock
        self._takers = takers
        self._check = check
        self._lock = asyncio.Lock()

    async def replay(self, places: Sequence[Place]) -> list[Result]:
        """Replay letters; return what came of each. At most MOST_LETTERS."""
        async with self._lock:
            found, results = await self._open(places)
            for letter in found:
                if letter.letter.destination == INGEST:
                    results[letter.place] = await self._take_again(letter)
            sent = [each for each in found if each.letter.destination != INGEST]
            results |= await self._publish(sent)
            return [results[place] for place in places]

    async def drop(self, places: Sequence[Place]) -> list[Result]:
        """Let letters be; return what came of each. At most MOST_LETTERS."""
        async with self._lock:
            found, results = await self._open(places)
            await self._note(Deed.DROPPED, ((each, None) for each in found))
            results |= {each.place: Result(each.place, Did.DROPPED) for each in found}
            return [results[place] for place in places]

    async def _open(self, places: Sequence[Place]) -> tuple[list[Letter], dict[Place, Result]]:
        """Return the letters about which nothing was done yet, and the results of the others."""
        await self._letters.catch_up(Log.DEAD)
        found: list[Letter] = []
        results: dict[Place, Result] = {}
        for place in dict.fromkeys(places):
            letter = await self._letters.letter(place)
            if letter is None:
                results[place] = Result(place, Did.NOT_FOUND, "there is no such dead letter")
            elif letter.state != OPEN:
                results[place] = Result(place, Did.ALREADY, str(letter.handling))
            else:
                found.append(letter)
        return found, results

    async def _take_again(self, letter: Letter) -> Result:
        """Replay what ingest had rejected; its retries are duplicates by its own dedup key."""
        checked = await self._check(letter.letter)
        if not checked.accepted:
            return Result(letter.place, Did.REJECTED, checked.detail)
        await self._note(Deed.REPLAYED, [(letter, None)])
        return Result(letter.place, Did.REPLAYED)

    async def _publish(self, letters: Sequence[Letter]) -> dict[Place, Result]:
        now_ms = self._clock.now_ms()
        drafts: dict[Place, Draft] = {}
        results: dict[Place, Result] = {}
        for letter in letters:
            made = self._draft(letter, now_ms)
            if isinstance(made, Draft):
                drafts[letter.place] = made
            else:
                results[letter.place] = Result(letter.place, Did.IMPOSSIBLE, made)
        made_of = [each for each in letters if each.place in drafts]
        await self._note(Deed.ASKED, ((each, None) for each in made_of if each.handling is None))
        offsets = await self._buffer.publish(Log.EVENTS, list(drafts.values())) if drafts else []
        await self._note(Deed.REPLAYED, zip(made_of, offsets, strict=True))
        for letter, offset in zip(made_of, offsets, strict=True):
            became = Place(letter.place.partition, offset)
            results[letter.place] = Result(letter.place, Did.REPLAYED, became=became)
        return results

    def _draft(self, letter: Letter, now_ms: int) -> Draft | str:
        """Return the record to publish, or why there can be none."""
        known = letter.letter
        if letter.type not in self._takers.get(known.site, {}).get(known.destination, ()):
            return (
                f"{known.destination} takes no {letter.type or 'such'} events of site "
                f"{known.site or 'unknown'} by this configuration"
            )
        asked_ms = letter.handling.time_ms if letter.handling else now_ms
        try:
            value = record_of(known, letter.subject, asked_ms)
        except UnreadableError as error:
            return f"what was buried is no event: {error}"
        return Draft(letter.place.partition, value)

    async def _note(self, deed: Deed, letters: Iterable[tuple[Letter, int | None]]) -> None:
        """Write down what was done, where the letters are."""
        parts: dict[int, list[Handled]] = defaultdict(list)
        for letter, became in letters:
            parts[letter.place.partition].append(Handled(*letter.subject, became))
        now_ms = self._clock.now_ms()
        drafts = [
            Draft(partition, dead.encode(Decision(deed, now_ms, tuple(handled))))
            for partition, handled in parts.items()
        ]
        if drafts:
            await self._buffer.publish(Log.DEAD, drafts)
