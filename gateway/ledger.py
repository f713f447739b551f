"""The ledger: what became of each event, read from the logs.

It follows the logs of all partitions into an index, from a day back on, and answers from there;
what is older it reads in the logs themselves, as far as bounds allow, and says how far that was.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

import orjson

from gateway.model.chain import Chain, Linked, chain_of
from gateway.model.facts import (
    Routes,
    assemble,
    concerns,
    ends_with,
    read_entry,
    read_event,
    read_letter,
)
from gateway.model.life import (
    Buried,
    Fact,
    Filters,
    Known,
    Letter,
    LetterFilters,
    Noted,
    Place,
    Standing,
    Taken,
    parse_place,
)
from gateway.model.window import CLOCKS_MS
from gateway.ports import (
    Buffer,
    BufferFailedError,
    Clock,
    Index,
    IndexFailedError,
    Log,
    Mark,
    Page,
    Record,
    RecordsGoneError,
)

INDEX_BACK_MS = 86_400_000
"""The index starts a day back (DESIGN, roles); dead letters all, for they are few."""
FOLLOWED = (Log.EVENTS, Log.OUTCOMES, Log.DEAD)
READ_RECORDS = 200
POLL_SECONDS = 0.2
MANY_PARTITIONS_SECONDS = 1.0
FORGET_SECONDS = 600.0
"""How long at most the index keeps what a log has removed."""
AGAIN_SECONDS = 1.0
"""Wait after the buffer or the index failed."""
TRACE_EVENTS = 200
PAGE_EVENTS = 500
SEARCH_RECORDS = 200_000
SEARCH_SECONDS = 15.0
AROUND_MS = 1_800_000
"""How far from the instant in a UUIDv7 its event is looked for first."""
UUID_OF_TIME = 7
FRESH_SECONDS = 1.0
"""The summary is computed at most this often, whoever asks."""

_log = logging.getLogger(__name__)


@dataclass(slots=True, frozen=True)
class Reading:
    """How far the ledger's knowledge goes."""

    reach_ms: int
    """Events that the log took since then are in the index, but for those below."""
    behind: int
    """Records of the logs not yet read."""
    trouble: str = ""
    """Why reading stands still."""


@dataclass(slots=True, frozen=True)
class Searched:
    """What reading the logs beyond the index gave."""

    events: tuple[Known, ...]
    back_to_ms: int
    """All events that the log took from then on, up to the index, were read."""
    complete: bool
    """Nothing older is left in the log."""
    records: int


@dataclass(slots=True, frozen=True)
class Trace:
    """The whole life of what bears an id."""

    value: str
    events: tuple[Known, ...]
    letters: tuple[Letter, ...]
    """Dead letters, and events rejected at ingest, that bear it."""
    reading: Reading
    heard_ms: Mapping[str, int]
    """When each destination last wrote to the outcome log."""
    searched: Searched | None = None
    more: bool = False
    """There are more events with this id than are given."""
    behind: tuple[Linked, ...] = ()
    """When a sale bears the id: what is linked to it and happened before, the oldest first."""
    behind_ids: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The ids by which it is linked, by their fields: the click, the mail reference, and so on."""
    behind_cut: bool = False
    """Not every link was followed: too many."""
    paused: tuple[Standing, ...] = ()
    """Destinations for which something of it waits, and which take no requests of some kind."""


@dataclass(slots=True, frozen=True)
class Summary:
    """How the destinations do, and how far this is known."""

    now_ms: int
    reading: Reading
    destinations: tuple[Standing, ...]


class _Search(ABC):
    """One search of the logs, and what it may still cost."""

    def __init__(self, routes: Routes) -> None:
        self.left = SEARCH_RECORDS
        self._routes = routes
        self._deadline = asyncio.get_running_loop().time() + SEARCH_SECONDS

    def may_go_on(self) -> bool:
        return self.left > 0 and asyncio.get_running_loop().time() < self._deadline

    @abstractmethod
    def look(self, partition: int, block: Sequence[Record]) -> None:
        """Look through a block of `events`; the next one lies before it."""

    def read(self, partition: int, record: Record) -> Taken:
        place = Place(partition, record.offset)
        return read_event(place, record.time_ms, record.value, self._routes)


class _ForId(_Search):
    """Looks for what bears an id."""

    def __init__(self, value: str, routes: Routes) -> None:
        super().__init__(routes)
        self.value = value
        self.found: list[Taken] = []
        self._needle = _needle(value)

    def look(self, partition: int, block: Sequence[Record]) -> None:
        for record in block:
            if self._needle in record.value:
                event = self.read(partition, record)
                if self.value in event.ids and len(self.found) < TRACE_EVENTS:
                    self.found.append(event)


class _ForStory(_Search):
    """Looks for what is behind a sale; what it finds leads further back."""

    def __init__(self, chain: Chain, routes: Routes) -> None:
        super().__init__(routes)
        self._chain = chain

    def look(self, partition: int, block: Sequence[Record]) -> None:
        before: object = None
        while before != (ids := self._chain.ids()):  # again, where a record told of new ids
            before = ids
            needles = [_needle(value) for values in ids.values() for value in values]
            for record in block:
                if any(needle in record.value for needle in needles):
                    event = self.read(partition, record)
                    self._chain.take([assemble(event, (), "its outcome was not looked for")])


def _needle(value: str) -> bytes:
    """Return how a value stands in a record, where it is a text of its own."""
    return orjson.dumps(value)[1:-1]


class Ledger:
    """`run` follows the logs; the questions raise IndexFailedError and BufferFailedError."""

    def __init__(self, buffer: Buffer, index: Index, routes: Routes, clock: Clock) -> None:
        self._buffer = buffer
        self._index = index
        self._routes = routes
        self._clock = clock
        self._marks: dict[tuple[Log, int], Mark] = {}
        self._trouble: dict[tuple[Log, int] | None, str] = {None: "the index is being opened"}
        self._news = asyncio.Event()
        self._reading: dict[tuple[Log, int], asyncio.Lock] = defaultdict(asyncio.Lock)
        self._summary: tuple[float, Summary] | None = None

    async def run(self) -> None:
        """Follow the logs until cancelled, through every failure of the buffer or the index."""
        try:
            await self._begin()
            async with asyncio.TaskGroup() as group:
                for log, partition in self._marks:
                    group.create_task(self._follow(log, partition))
                group.create_task(self._forget())
        finally:
            await self._index.stop()

    async def _begin(self) -> None:
        while True:
            try:
                marks = await self._index.start(_text(self._routes), self._since_ms())
                self._marks = await self._places(marks)
            except (BufferFailedError, IndexFailedError) as error:
                self._troubled(None, error)
                await asyncio.sleep(AGAIN_SECONDS)
            else:
                self._trouble.pop(None)
                return

    def _since_ms(self) -> int:
        return self._clock.now_ms() - INDEX_BACK_MS

    async def _places(self, marks: Mapping[tuple[Log, int], Mark]) -> dict[tuple[Log, int], Mark]:
        """Return where to read on; anew if the index was made from other logs than these."""
        for (log, partition), mark in marks.items():
            if not await self._is_of(log, partition, mark):
                await self._index.clear(self._since_ms())
                marks = {}
                break
        places = dict(marks)
        for log in FOLLOWED:
            for partition in range(self._buffer.partitions):
                if (log, partition) not in places:
                    places[log, partition] = Mark(await self._start(log, partition), 0)
        return places

    async def _is_of(self, log: Log, partition: int, mark: Mark) -> bool:
        """Whether the log still has the record that was read last, or has removed it."""
        if partition >= self._buffer.partitions:
            return False
        span = await self._buffer.span(log, partition)
        if mark.next > span.next or mark.next <= span.first:
            return mark.next <= span.first and mark.next <= span.next
        [last] = await self._buffer.read(log, partition, mark.next - 1, 1)
        return last.time_ms == mark.time_ms

    async def _start(self, log: Log, partition: int) -> int:
        if log is Log.DEAD:
            return (await self._buffer.span(log, partition)).first
        return await self._buffer.offset_at(log, partition, self._since_ms())

    async def _follow(self, log: Log, partition: int) -> None:
        """Read a partition as it grows. The port has no wait over logs, so it looks again."""
        source = (log, partition)
        few = self._buffer.partitions <= MANY_PARTITIONS_SECONDS / POLL_SECONDS
        while True:
            wait_seconds = POLL_SECONDS if few else MANY_PARTITIONS_SECONDS
            try:
                if await self._take_in(log, partition):
                    wait_seconds = 0
                self._trouble.pop(source, None)
            except (BufferFailedError, IndexFailedError) as error:
                self._troubled(source, error)
                wait_seconds = AGAIN_SECONDS
            await asyncio.sleep(wait_seconds)

    async def _take_in(self, log: Log, partition: int) -> bool:
        """Take in what has come since; whether there was anything."""
        async with self._reading[log, partition]:
            try:
                return await self._take_in_next(log, partition)
            except RecordsGoneError as error:
                self._marks[log, partition] = Mark(error.first, 0)
                return True

    async def _take_in_next(self, log: Log, partition: int) -> bool:
        start = self._marks[log, partition].next
        records = await self._buffer.read(log, partition, start, READ_RECORDS)
        if not records:
            return False
        facts = [fact for record in records if (fact := self._fact(log, record))]
        mark = Mark(records[-1].offset + 1, records[-1].time_ms)
        await self._index.put(log, partition, mark, facts)
        self._marks[log, partition] = mark
        self._news.set()
        return True

    async def _forget(self) -> None:
        """Keep no copy of what the logs have removed: so personal data is erased."""
        while True:
            try:
                events_ms = await self._oldest_ms(Log.EVENTS)
                await self._index.forget(events_ms, await self._oldest_ms(Log.DEAD))
            except (BufferFailedError, IndexFailedError) as error:
                _log.warning("the index can't forget now, trying again: %s", error)
            await asyncio.sleep(FORGET_SECONDS)

    async def _oldest_ms(self, log: Log) -> int:
        """Return since when a log may hold records, by its own clock."""
        oldest_ms = self._clock.now_ms() - CLOCKS_MS
        for partition in range(self._buffer.partitions):
            first = (await self._buffer.span(log, partition)).first
            for record in await self._buffer.read(log, partition, first, 1):
                oldest_ms = min(oldest_ms, record.time_ms)
        return oldest_ms

    def _fact(self, log: Log, record: Record) -> Fact | None:
        place = Place(record.partition, record.offset)
        if log is Log.EVENTS:
            return read_event(place, record.time_ms, record.value, self._routes)
        read = read_entry if log is Log.OUTCOMES else read_letter
        fact = read(place, record.time_ms, record.value)
        if fact is None:
            _log.warning("%s %s can't be read and is left out", log.value, place)
        return fact

    def _troubled(self, source: tuple[Log, int] | None, error: Exception) -> None:
        if self._trouble.get(source) != str(error):
            _log.warning("the ledger can't read on: %s", error)
        self._trouble[source] = str(error)

    async def catch_up(self, log: Log) -> None:
        """Take in all that a log holds by now, so that answers know of it.

        Raises IndexFailedError, BufferUnavailableError.
        """
        if not self._marks:
            raise IndexFailedError("the index is being opened: ask again")
        for partition in range(self._buffer.partitions):
            while await self._take_in(log, partition):
                pass

    # Questions.

    async def reading(self) -> Reading:
        """Return how far the ledger's knowledge goes."""
        behind = 0
        trouble = next(iter(self._trouble.values()), "")
        for (log, partition), mark in list(self._marks.items()):
            try:
                span = await self._buffer.span(log, partition)
            except BufferFailedError as error:
                trouble = trouble or str(error)
                break
            behind += max(0, span.next - mark.next)
        return Reading(await self._index.reach_ms(), behind, trouble)

    async def events(self, filters: Filters, cursor: str | None, limit: int) -> Page:
        """Return events, newest first; with an outcome asked for, by the time of the outcome."""
        return await self._index.events(filters, cursor, min(limit, PAGE_EVENTS))

    async def tail(
        self, filters: Filters, cursor: str | None, limit: int, wait_seconds: float
    ) -> Page:
        """Return events of which more became known since `cursor`, waiting so long for one."""
        loop = asyncio.get_running_loop()
        end = loop.time() + wait_seconds
        limit = min(limit, PAGE_EVENTS)
        while True:
            news = self._news
            page = await self._index.changes(cursor, limit)
            wanted = tuple(known for known in page.events if filters.match(known))
            left = end - loop.time()
            if wanted or left <= 0:
                return Page(events=wanted, cursor=page.cursor)
            cursor = page.cursor
            if not page.events:
                await self._wait_for(news, left)

    async def _wait_for(self, news: asyncio.Event, seconds: float) -> None:
        """Wait for something to be taken in; each event serves those who wait for it, once."""
        try:
            await asyncio.wait_for(news.wait(), seconds)
        except TimeoutError:
            return
        if self._news is news:
            self._news = asyncio.Event()

    async def letters(self, filters: LetterFilters, cursor: str | None, limit: int) -> Page:
        """Return dead letters, newest first, with those that ingest rejected."""
        return await self._index.letters(filters, cursor, min(limit, PAGE_EVENTS))

    async def letter(self, place: Place) -> Letter | None:
        """Return a dead letter, from the log if the index has it no more."""
        found = await self._index.letter(place)
        if found or not 0 <= place.partition < self._buffer.partitions:
            return found
        try:
            records = await self._buffer.read(Log.DEAD, place.partition, place.offset, 1)
        except RecordsGoneError:
            return None
        for record in records:
            buried = read_letter(Place(record.partition, record.offset), 0, record.value)
            if isinstance(buried, Buried) and buried.place == place:
                subject = buried.letter.subject(place.offset)
                handling = await self._index.handling(place.partition, subject)
                return Letter(
                    place, record.time_ms, buried.letter, buried.id, buried.type, handling
                )
        return None

    async def summary(self) -> Summary:
        """Return how the destinations do."""
        now = asyncio.get_running_loop().time()
        if self._summary is None or now - self._summary[0] > FRESH_SECONDS:
            self._summary = (now, await self._summarise())
        return self._summary[1]

    async def _summarise(self) -> Summary:
        now_ms = self._clock.now_ms()
        standings = {each.destination: each for each in await self._index.standings(now_ms)}
        for name in {name for names in self._routes.values() for name in names}:
            standings.setdefault(name, Standing(name, {}, 0, None, None, None))
        reading = await self.reading()
        places = {place for each in standings.values() for place in each.behind}
        taken_ms = {place: await self._taken_ms(place) for place in sorted(places)}
        told = [_aged(standings[name], taken_ms, reading.reach_ms) for name in sorted(standings)]
        return Summary(now_ms, reading, tuple(told))

    async def _taken_ms(self, place: Place) -> int | None:
        """Return when the log took an event; None when it is not there (yet, or any more)."""
        try:
            records = await self._buffer.read(Log.EVENTS, place.partition, place.offset, 1)
        except BufferFailedError:
            return None
        return records[0].time_ms if records else None

    async def trace(
        self, value: str, *, older: bool = False, before_ms: int | None = None
    ) -> Trace:
        """Return the life of what bears an id, or stands at a place (`partition-offset`).

        When the index has nothing, or with `older`, the logs before it are read too, back from
        `before_ms`, as far as SEARCH_RECORDS and SEARCH_SECONDS allow.
        """
        events = await self._index.find(value, TRACE_EVENTS + 1)
        letters = await self._index.find_letters(value, TRACE_EVENTS)
        summary = await self.summary()
        searched = None
        back_ms = before_ms or summary.reading.reach_ms
        if older or not (events or letters):
            searched = await self._search(value, back_ms)
        chain = await self._chain([*events, *(searched.events if searched else ())])
        if chain and searched:
            _, complete = await self._sweep(_ForStory(chain, self._routes), 0, back_ms)
            chain.cut = chain.cut or not complete
        heard = {each.destination: each.heard_ms for each in summary.destinations}
        waits = {fate.destination for each in events for fate in each.fates if fate.waiting}
        return Trace(
            value=value,
            events=tuple(events[:TRACE_EVENTS]),
            letters=tuple(letters),
            reading=summary.reading,
            heard_ms={name: at for name, at in heard.items() if at is not None},
            searched=searched,
            more=len(events) > TRACE_EVENTS,
            behind=chain.story() if chain else (),
            behind_ids=chain.ids() if chain else {},
            behind_cut=chain is not None and chain.cut,
            paused=tuple(
                each for each in summary.destinations if each.paused and each.destination in waits
            ),
        )

    async def _chain(self, events: Sequence[Known]) -> Chain | None:
        """Follow the links of the first sale among events, as far as the index reaches."""
        chain = chain_of(events)
        while chain and (todo := chain.todo()):
            for link in todo:
                chain.take(await self._index.find(link.value, TRACE_EVENTS))
        return chain

    # Reading the logs beyond the index.

    async def _search(self, value: str, before_ms: int) -> Searched:
        """Look where the id says that it was made, if it does; else back from `before_ms`."""
        search = _ForId(value, self._routes)
        await self._search_place(search)
        made_ms = _made_ms(value)
        back_to_ms, complete = before_ms, False
        if made_ms is not None and made_ms < before_ms:
            until_ms = min(before_ms, made_ms + AROUND_MS)
            await self._sweep(search, made_ms - AROUND_MS, until_ms)
        if not search.found:
            back_to_ms, complete = await self._sweep(search, 0, before_ms)
        events = [await self._life(event, search) for event in search.found]
        events.sort(key=lambda known: (known.time_ms, known.place), reverse=True)
        return Searched(tuple(events), back_to_ms, complete, SEARCH_RECORDS - search.left)

    async def _search_place(self, search: _ForId) -> None:
        place = parse_place(search.value)
        if place and place.partition < self._buffer.partitions:
            for record in await self._between(
                Log.EVENTS, place.partition, place.offset, place.offset + 1
            ):
                search.found.append(search.read(place.partition, record))

    async def _sweep(self, search: _Search, after_ms: int, before_ms: int) -> tuple[int, bool]:
        """Read `events` backwards between two instants, all partitions in step.

        Return since when everything was read, and whether that was all.
        """
        reached: dict[int, tuple[int, int]] = {}
        lows: dict[int, int] = {}
        for partition in range(self._buffer.partitions):
            end = await self._buffer.offset_at(Log.EVENTS, partition, before_ms)
            lows[partition] = await self._buffer.offset_at(Log.EVENTS, partition, after_ms)
            reached[partition] = (end, before_ms)
        oldest_ms = before_ms
        while todo := {p: end for p, (end, _) in reached.items() if end > lows[p]}:
            if not search.may_go_on():
                return max(reached[partition][1] for partition in todo), False
            for partition, end in todo.items():
                start = max(lows[partition], end - READ_RECORDS)
                time_ms = await self._search_block(search, partition, start, end)
                reached[partition] = (start, time_ms)
                oldest_ms = min(oldest_ms, time_ms)
        return oldest_ms, True

    async def _search_block(self, search: _Search, partition: int, start: int, end: int) -> int:
        """Search the records from `start` to `end`; the log's time of the first of them."""
        block = await self._between(Log.EVENTS, partition, start, end)
        search.left -= len(block)
        search.look(partition, block)
        return block[0].time_ms if block else 0

    async def _between(self, log: Log, partition: int, start: int, end: int) -> list[Record]:
        """Read from `start` to `end`; what retention removed meanwhile is not there."""
        records: list[Record] = []
        while start < end:
            try:
                some = await self._buffer.read(log, partition, start, end - start)
            except RecordsGoneError as error:
                start = max(start + 1, error.first)
                continue
            if not some:
                break
            records += some
            start = some[-1].offset + 1
        return records

    async def _life(self, event: Taken, search: _Search) -> Known:
        """Read on in the outcome log from when the event was taken until all is known of it."""
        partition, offset = event.place
        start = await self._buffer.offset_at(Log.OUTCOMES, partition, event.time_ms)
        end = (await self._buffer.span(Log.OUTCOMES, partition)).next
        notes: list[Noted] = []
        missing = set(event.destinations)
        unknown = ""
        while missing and start < end:
            if not search.may_go_on():
                unknown = "the outcome log was not read to its end: too much for one question"
                break
            stop = min(end, start + READ_RECORDS)
            for record in await self._between(Log.OUTCOMES, partition, start, stop):
                search.left -= 1
                place = Place(partition, record.offset)
                note = read_entry(place, record.time_ms, record.value)
                if note and concerns(note, offset):
                    notes.append(note)
                    missing -= ends_with(note, offset)
            start = stop
        return assemble(event, notes, unknown)


def _aged(standing: Standing, taken_ms: Mapping[Place, int | None], reach_ms: int) -> Standing:
    """Reckon with what waits since before the index, which cannot count it."""
    older = [at for place in standing.behind if (at := taken_ms[place]) and at < reach_ms]
    return replace(standing, oldest_ms=min(older)) if older else standing


def _made_ms(value: str) -> int | None:
    """Return when a UUIDv7 was made (RFC 9562, 5.7); None when it is something else."""
    try:
        uuid = UUID(value)
    except ValueError:
        return None
    return uuid.int >> 80 if uuid.version == UUID_OF_TIME else None


def _text(routes: Routes) -> str:
    plain = {site: {n: sorted(types) for n, types in by.items()} for site, by in routes.items()}
    return orjson.dumps(plain, option=orjson.OPT_SORT_KEYS).decode()
