"""What the ledger knows of dead letters, read from a log in memory, and a console over it."""

from dataclasses import replace

from gateway.adapters.memory import MemoryBuffer
from gateway.model import dead
from gateway.model.dead import Deed, Subject
from gateway.model.facts import read_letter
from gateway.model.life import OPEN, Buried, Decided, Handling, Letter, Place
from gateway.ports import Log
from gateway.replay import Checked, Replay
from tests.unit.deliver.world import NAME, SITE, World

TYPES = {SITE: {NAME: frozenset({"product", "cart", "lead", "sale"})}}


class ReadLetters:
    """The letters of a log, read anew by each `catch_up`."""

    def __init__(self, buffer: MemoryBuffer) -> None:
        self._buffer = buffer
        self._letters: dict[Place, Letter] = {}

    async def catch_up(self, log: Log) -> None:
        handled: dict[tuple[int, Subject], Handling] = {}
        self._letters = {}
        for partition in range(self._buffer.partitions):
            for record in await self._buffer.read(log, partition, 0, 1_000_000):
                place = Place(partition, record.offset)
                read = read_letter(place, record.time_ms, record.value)
                if isinstance(read, Buried):
                    self._letters[place] = Letter(place, 0, read.letter, read.id, read.type)
                elif isinstance(read, Decided):
                    _fold(handled, read)
        for place, letter in self._letters.items():
            found = handled.get((place.partition, letter.subject))
            self._letters[place] = replace(letter, handling=found)

    async def letter(self, place: Place) -> Letter | None:
        return self._letters.get(place)

    def open(self) -> list[Place]:
        return [place for place, letter in self._letters.items() if letter.state == OPEN]

    def all(self) -> list[Place]:
        return list(self._letters)


def _fold(handled: dict[tuple[int, Subject], Handling], decided: Decided) -> None:
    for each in decided.decision.letters:
        key = (decided.place.partition, each.subject)
        before = handled.get(key)
        final = before is not None and before.deed is not Deed.ASKED
        if not final and (before is None or decided.decision.deed is not Deed.ASKED):
            handled[key] = Handling(decided.decision.deed, decided.decision.time_ms)


async def _refuse(_letter: dead.DeadLetter) -> Checked:
    return Checked(accepted=False, detail="not here")


def console(world: World) -> tuple[Replay, ReadLetters]:
    """Return a console's use case over a world's log."""
    letters = ReadLetters(world.buffer)
    return Replay(letters, world.buffer, world.clock, TYPES, _refuse), letters
