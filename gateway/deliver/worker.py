"""One destination's work on one partition, from assignment to hand-over.

Four kinds of task: `_read` judges what the log holds, `_dispatch` begins attempts, each `_attempt`
ends in outcomes or another try, `_keep` commits, writes snapshots, buries what has had its time.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, NoReturn, TypeVar

from gateway.deliver import entries, measure, policy
from gateway.deliver.book import Book, remembered
from gateway.deliver.journal import OUTAGE_SECONDS, SELDOM, Journal
from gateway.deliver.judge import Judge, Judged, Routes, window_of
from gateway.deliver.lanes import Entry, Lanes
from gateway.deliver.pace import Pace, Turn
from gateway.deliver.restore import Place, Restore
from gateway.deliver.settings import DestinationSettings
from gateway.model.attempt import WHOLE, Again, Done, Item, Reply, Request
from gateway.model.dead import DeadLetter
from gateway.model.journal import Pause, Postponed, Settled
from gateway.model.outcome import Outcome, Reason
from gateway.model.recovery import Recovery, not_before
from gateway.model.retry import RETRY_AFTER_SECONDS
from gateway.model.window import DedupSettings
from gateway.ports import (
    Assignment,
    Buffer,
    BufferUnavailableError,
    Clock,
    Destination,
    Log,
    Position,
    Record,
    RecordsGoneError,
)

READ_RECORDS = 200
"""Judged at one go: a few milliseconds in which nothing else of the process runs."""
READ_AT_ONCE = 2000
"""Of the window: to ask for a page costs as much as to judge some."""
OPEN_RECORDS = 5000
"""When so many records wait, no further ones are read."""
COMMIT_SECONDS = 0.25
SNAPSHOT_SECONDS = 60.0
SNAPSHOT_OUTCOMES = 20_000
"""A successor reads about this much of the outcome log at most."""
LOG = logging.getLogger("gateway.deliver")
T = TypeVar("T")


@dataclass(slots=True, frozen=True)
class House:
    """What the destinations of a process share."""

    buffer: Buffer
    routes: Routes
    clock: Clock
    dedup: DedupSettings
    retention_seconds: float


@dataclass(slots=True, frozen=True)
class Parts:
    """What the workers of a destination share."""

    name: str
    destination: Destination
    settings: DestinationSettings
    house: House
    pace: Pace
    standings: measure.Standings


async def work(parts: Parts, assignment: Assignment) -> None:
    """Deliver the records of a partition until its assignment ends.

    Raises AssignmentLostError, and BufferUnavailableError where it could not begin.
    """
    house = parts.house
    restore = Restore(parts.name, parts.settings.start, house.buffer, house.dedup)
    place = await restore.find(assignment, house.clock)
    await _Worker(parts, assignment, place).run(place)


class _Worker:
    def __init__(self, parts: Parts, assignment: Assignment, place: Place) -> None:
        self._parts = parts
        self._assignment = assignment
        self._settings = parts.settings
        self._loop = asyncio.get_running_loop()
        house = parts.house
        window = window_of(house.dedup, house.buffer.partitions)
        self._judge = Judge(parts.name, parts.destination, parts.settings, house.routes, window)
        self._recovery: Recovery | None = place.recovery
        self._left_ms = place.recovery.latest_ms
        self._begins_at = place.recovery.position
        self._book = Book(place.recovery.position)
        self._journal = Journal(house.buffer, assignment.partition, place.outcomes_next)
        self._lanes = Lanes(parts.settings.batch_seconds)
        self._limits: dict[str, int] = {}
        self._wake = asyncio.Event()
        self._room = asyncio.Event()
        self._attempts: set[asyncio.Task[Any]] = set()
        self._failed: asyncio.Future[None] = self._loop.create_future()
        self._committed: Position | None = None
        self._resume = place.resume_offset
        self._since_snapshot = 0
        self._snapshot_at = self._loop.time()

    async def run(self, place: Place) -> None:
        ending = asyncio.ensure_future(self._assignment.ending.wait())
        tasks: list[asyncio.Future[Any]] = [ending]
        self._parts.pace.listeners.add(self._wake.set)
        try:
            await self._catch_up(place)
            if ending.done():
                return
            begin = [asyncio.ensure_future(each) for each in (self._read(), self._dispatch())]
            keeper = asyncio.ensure_future(self._keep())
            tasks += [*begin, keeper]
            await _first([*tasks, self._failed])
            await _cancel(begin)
            while self._attempts:
                await _first([*self._attempts, keeper, self._failed])
            await _cancel([keeper])
            await self._commit()
        finally:
            await _cancel([*tasks, self._failed, *self._attempts], quiet=True)
            self._parts.pace.listeners.discard(self._wake.set)
            self._parts.standings.put(self._assignment.partition, None)

    # Reading and judging.

    async def _catch_up(self, place: Place) -> None:
        """Read the window and what the predecessor had read, before anything is attempted."""
        offset = place.read_from
        while offset < place.recovery.high and not self._assignment.ending.is_set():
            limit = min(READ_AT_ONCE, place.recovery.high - offset)
            found = await self._assignment.read(offset, limit, 1.0)
            for first in range(0, len(found), READ_RECORDS):
                page = found[first : first + READ_RECORDS]
                await self._take_in(page)
                offset = page[-1].offset + 1
                await asyncio.sleep(0)
        if offset >= place.recovery.high:
            self._recovery = None
            await self._snapshot()

    async def _read(self) -> NoReturn:
        while True:
            while len(self._book.open) >= OPEN_RECORDS:
                self._room.clear()
                await self._room.wait()
            try:
                page = await self._assignment.read(self._book.next, READ_RECORDS, 1.0)
            except BufferUnavailableError:
                await asyncio.sleep(OUTAGE_SECONDS)
                continue
            except RecordsGoneError as gone:
                self._skip_to(gone.first)
                continue
            if page:
                await self._take_in(page)

    def _skip_to(self, first: int) -> None:
        missing = first - self._book.next
        measure.missing(self._parts.name, missing)
        LOG.error("%s: %d records were gone before they were read", self._parts.name, missing)
        self._book.next = first

    async def _take_in(self, page: Sequence[Record]) -> None:
        """Judge records; those with an outcome at once get it, the others wait in the lanes.

        All of it is held: what is opened may have its outcome before the page is done with.
        """
        with self._journal.hold():
            settled, letters = self._judge_page(page)
            await self._journal.bury(letters)
            if settled:
                now_ms = self._parts.house.clock.now_ms()
                await self._journal.write(entries.answer(self._parts.name, now_ms, settled))
            self._close(settled)
            self._book.next = max(self._book.next, page[-1].offset + 1)
        self._wake.set()

    def _judge_page(self, page: Sequence[Record]) -> tuple[list[Settled], list[DeadLetter]]:
        """Open what is to be sent; return the outcomes of the rest, and its dead letters."""
        settled: list[Settled] = []
        letters: list[DeadLetter] = []
        for record in page:
            if record.offset < self._begins_at:
                self._judge.follow(record)
                continue
            judged = self._judge.see(record)
            if judged is None:
                continue
            settled += self._supersede(judged)  # also where the newer state has its outcome
            if self._is_settled(record.offset):
                continue
            if isinstance(judged.verdict, Item):
                self._open(record, judged, judged.verdict)
                continue
            done = judged.verdict
            settled.append(Settled(record.offset, done.outcome, done.reason, done.detail))
            if done.outcome is Outcome.DEAD:
                now_ms = self._parts.house.clock.now_ms()
                letters.append(
                    entries.unsent_letter(self._parts.name, record, judged, done, now_ms)
                )
        return settled, letters

    def _is_settled(self, offset: int) -> bool:
        return self._recovery is not None and self._recovery.is_settled(offset)

    def _supersede(self, judged: Judged) -> list[Settled]:
        """Give the outcome to the state of the cart that waits; one in flight gets it later."""
        key = judged.newest_of
        older = self._book.older_state(key) if key is not None else None
        if older is None or older.gone:
            return []
        older.stale = True
        if older.in_flight:
            return []
        self._lanes.remove(older)
        return [Settled(older.offset, Outcome.SUPERSEDED, Reason.NEWER_CART)]

    def _open(self, record: Record, judged: Judged, item: Item) -> None:
        assert judged.envelope is not None  # noqa: S101 - an item is made from one
        entry = Entry(record.offset, record.time_ms, judged.envelope, item)
        if self._recovery is not None:
            remembered(entry, self._recovery.memory(record.offset))
        if item.kind not in self._limits:
            most = self._parts.destination.batch_limit(item.kind)
            self._limits[item.kind] = min(most, self._settings.batch_events)
        self._book.add(entry, judged.newest_of)
        self._line_up(entry)

    def _line_up(self, entry: Entry) -> None:
        """Let it wait its turn; one that a predecessor had tried, for as long as that one would.

        One that waits for another event is tried at once: that one may have passed meanwhile.
        """
        now = self._loop.time()
        if entry.next_ms is None:
            wait = policy.first_wait_seconds(entry)
            self._lanes.add(entry, now, now + wait if wait else 0.0)
            return
        waits = entry.waits_since_ms is not None
        left = (entry.next_ms - max(self._parts.house.clock.now_ms(), self._left_ms)) / 1000
        wait = min(max(0.0, left), RETRY_AFTER_SECONDS) if entry.limited or not waits else 0.0
        if entry.limited:
            self._parts.pace.hold(wait)
        self._lanes.add(entry, now, now + wait, yields=waits)

    # Attempts.

    async def _dispatch(self) -> NoReturn:
        while True:
            await self._until_due()
            await self._parts.pace.begin()
            batch = self._take_batch()
            if batch:
                kind = batch[0].item.kind
                self._parts.pace.took(kind)
                self._spawn(self._attempt(batch), partial(self._attempted, kind))
            else:
                self._parts.pace.end(None, None)

    async def _until_due(self) -> None:
        while True:
            self._wake.clear()
            held = self._parts.pace.held()
            wait = self._lanes.seconds_until_due(self._loop.time(), self._limits, held)
            if wait == 0:
                return
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                continue  # due now

    def _take_batch(self) -> list[Entry]:
        """Take what is due, less what has got its outcome while it waited."""
        now_ms = self._parts.house.clock.now_ms()
        batch = []
        over = []
        held = self._parts.pace.held()
        for entry in self._lanes.take(self._loop.time(), self._limits, held):
            done = policy.before_attempt(entry, self._settings, now_ms)
            if done is None:
                entry.in_flight = True
                entry.attempts += 1
                batch.append(entry)
            else:
                self._lanes.remove(entry)
                over.append((entry, policy.settled(entry, done)))
        if over:
            self._spawn(self._settle(over))
        return batch

    def _spawn(
        self, step: Coroutine[Any, Any, T], ended: Callable[[asyncio.Task[T]], None] | None = None
    ) -> None:
        task = asyncio.ensure_future(step)
        self._attempts.add(task)
        if ended is not None:
            task.add_done_callback(ended)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._attempts.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._failed.done():
            self._failed.set_exception(error)

    def _attempted(self, kind: str, task: asyncio.Task[tuple[Request, Reply] | None]) -> None:
        """Give back what `pace.begin` took: not in the task, which may be cancelled unbegun."""
        failed = task.cancelled() or task.exception() is not None
        exchange = None if failed else task.result()
        for turn in self._parts.pace.end(kind, exchange):
            assert exchange is not None  # noqa: S101 - without one nothing turns
            if turn.kind is None:
                self._tell_whole(turn)
            else:
                self._tell(turn, turn.kind, exchange[0].endpoint)
        self._wake.set()

    def _tell_whole(self, turn: Turn) -> None:
        """Say that the destination as a whole is out of order, or at work again."""
        name = self._parts.name
        if turn.on:
            LOG.warning(
                "%s: nothing goes through (%s). Its events wait for %g h (retry_for_seconds); it "
                "is tried again every few minutes. If it is well, mend [destinations.%s]",
                name,
                turn.detail,
                self._hours(),
                name,
            )
        else:
            LOG.warning("%s: goes through again", name)

    def _hours(self) -> float:
        return round(self._settings.retry_for_seconds / 3600, 1)

    def _tell(self, turn: Turn, kind: str, endpoint: str) -> None:
        """Say loudly that a kind of request is paused, or goes on."""
        now_ms = self._parts.house.clock.now_ms()
        name = self._parts.name
        if turn.on:
            LOG.error(
                "%s: %s is paused, as by a wrong setting (%s). Nothing is lost for %g h "
                "(retry_for_seconds): mend [destinations.%s] and restart, or let it try again "
                "every few minutes. The answers: gateway tail --destination %s",
                name,
                endpoint,
                turn.detail,
                self._hours(),
                name,
                name,
            )
        else:
            LOG.warning("%s: %s goes on again", name, endpoint)
        pause = Pause(name, kind, turn.on, now_ms, endpoint, turn.detail)
        self._spawn(self._journal.write(pause))

    async def _attempt(self, batch: list[Entry]) -> tuple[Request, Reply] | None:
        """Make the attempt; return its request and what came of it, None where none was made."""
        request = self._request(batch)
        if request is None:
            await self._conclude(batch, None, _unmade(batch))
            return None
        announced = entries.announce(
            self._parts.name, batch, request, self._parts.house.clock.now_ms()
        )
        await self._journal.write(announced)
        if any(policy.must_not_repeat(entry, self._settings) for entry in batch):
            await self._confirm()
        reply = await self._send(request)
        await self._conclude(batch, request, reply)
        return request, reply

    async def _confirm(self) -> None:
        """Make sure that the partition is still ours (rule 4)."""
        while True:
            try:
                return await self._assignment.confirm()
            except BufferUnavailableError:
                await asyncio.sleep(OUTAGE_SECONDS)

    def _request(self, batch: list[Entry]) -> Request | None:
        """Return the request, or None where the destination's own code can't stand the batch."""
        try:
            return self._parts.destination.request([entry.item for entry in batch])
        except Exception:
            LOG.exception("%s: no request could be made", self._parts.name)
            return None

    async def _send(self, request: Request) -> Reply:
        began = perf_counter()
        try:
            reply = await self._parts.destination.send(request)
        except Exception as error:
            # A fault of the destination's own code must neither lose events nor stop others.
            LOG.exception("%s: %s failed", self._parts.name, request.endpoint)
            fault = Again(Reason.NO_ANSWER, detail=f"internal error: {type(error).__name__}")
            reply = Reply((fault,) * len(request.items), answer=fault.detail)
        measure.attempt(self._parts.name, request, reply, perf_counter() - began)
        return reply

    async def _conclude(self, batch: list[Entry], request: Request | None, reply: Reply) -> None:
        """Decide what came of a request, write it, act on it."""
        now_ms = self._parts.house.clock.now_ms()
        if any(isinstance(each, Done) and each.outcome in _TAKEN for each in reply.verdicts):
            self._book.went_through(batch[0].item.kind, now_ms)
        self._book.failed_whole(
            entry
            for entry, verdict in zip(batch, reply.verdicts, strict=True)
            if isinstance(verdict, Again) and verdict.reason in WHOLE
        )
        settled: list[tuple[Entry, Settled]] = []
        postponed: list[tuple[Entry, Postponed]] = []
        draw = random.random()  # noqa: S311 - jitter; one for all, so that a batch stays one
        for entry, verdict in zip(batch, reply.verdicts, strict=True):
            if isinstance(verdict, Done):
                if request is not None:
                    policy.learn_end(entry, verdict)
                settled.append((entry, policy.settled(entry, verdict)))
                continue
            if verdict.reason is Reason.SPLIT:
                entry.cap = max(1, (len(batch) + 1) // 2)
            decided = self._after_failure(entry, verdict, now_ms, draw)
            if isinstance(decided, Settled):
                settled.append((entry, decided))
            else:
                postponed.append((entry, decided))
        await self._settle(settled, postponed, (request, reply) if request else None)

    def _after_failure(
        self, entry: Entry, again: Again, now_ms: int, draw: float
    ) -> Settled | Postponed:
        policy.learn(entry, again, now_ms)
        alone = again.reason not in WHOLE or self._book.fails_alone(entry)
        return policy.after_failure(entry, again, self._settings, now_ms, draw, alone=alone)

    async def _settle(
        self,
        settled: Sequence[tuple[Entry, Settled]],
        postponed: Sequence[tuple[Entry, Postponed]] = (),
        exchange: tuple[Request, Reply] | None = None,
    ) -> None:
        """Bury the dead, write the outcomes, then act on them."""
        name = self._parts.name
        now_ms = self._parts.house.clock.now_ms()
        dead = [
            entries.letter(name, entry, outcome, now_ms, exchange)
            for entry, outcome in settled
            if outcome.outcome is Outcome.DEAD
        ]
        await self._journal.bury(dead)
        outcomes = [outcome for _, outcome in settled]
        with self._journal.hold():
            later = [each for _, each in postponed]
            await self._journal.write(entries.answer(name, now_ms, outcomes, later, exchange))
            for entry, outcome in settled:
                self._lanes.remove(entry)
                if outcome.outcome in _TAKEN:
                    self._lanes.passed(entry, self._loop.time())
            self._close(outcomes)
            began = (self._loop.time(), self._parts.house.clock.now_ms())
            for entry, each in postponed:
                self._postpone(entry, each, *began)
        self._wake.set()

    def _postpone(self, entry: Entry, postponed: Postponed, now: float, now_ms: int) -> None:
        entry.in_flight = False
        entry.next_ms = not_before(postponed)
        entry.limited = postponed.reason is Reason.RATE_LIMITED
        self._book.failed(entry)
        wait = (postponed.next_ms - now_ms) / 1000
        yields = entry.last is not None and entry.last.then is not None
        self._lanes.again(entry, now + max(0.0, wait), yields=yields)

    def _close(self, settled: Sequence[Settled]) -> None:
        now_ms = self._parts.house.clock.now_ms()
        for each in settled:
            entry = self._book.close(each.offset)
            age = (now_ms - entry.envelope.received_ms) / 1000 if entry else None
            measure.outcome(self._parts.name, each, age)
        self._since_snapshot += len(settled)
        self._room.set()

    # Keeping.

    async def _keep(self) -> NoReturn:
        while True:
            await asyncio.sleep(COMMIT_SECONDS)
            await self._expire()
            if self._since_snapshot >= SNAPSHOT_OUTCOMES or self._minute_over():
                await self._snapshot()
            try:
                await self._commit()
                await self._stand()
            except BufferUnavailableError as error:
                name = self._parts.name
                LOG.warning("%s: position not kept, trying again: %s", name, error, extra=SELDOM)

    async def _expire(self) -> None:
        """Bury what has had its time, tried or not (rule 5)."""
        now_ms = self._parts.house.clock.now_ms()
        over: list[tuple[Entry, Settled]] = []
        for entry in self._book.open.values():
            if not policy.is_expired(entry, self._settings, now_ms) or len(over) >= READ_RECORDS:
                break
            if not entry.in_flight and not entry.gone:
                over.append((entry, policy.settled(entry, policy.expired(entry))))
        for entry, _ in over:
            self._lanes.remove(entry)
        if over:
            await self._settle(over)

    def _minute_over(self) -> bool:
        return self._loop.time() - self._snapshot_at >= SNAPSHOT_SECONDS

    async def _snapshot(self) -> None:
        """Write anew what is open beyond the commit, so that a successor never reads far."""
        resume = self._journal.resume_offset()
        now_ms = self._parts.house.clock.now_ms()
        await self._journal.write(self._book.snapshot(self._parts.name, now_ms))
        self._resume = resume
        self._since_snapshot = 0
        self._snapshot_at = self._loop.time()

    async def _commit(self) -> None:
        position = Position(self._book.commit_offset(), self._resume)
        if position != self._committed:
            await self._assignment.commit(position)
            self._committed = position

    async def _stand(self) -> None:
        span = await self._parts.house.buffer.span(Log.EVENTS, self._assignment.partition)
        window = self._judge.window
        standing = measure.Standing(
            span.next - self._book.commit_offset(),
            self._age_seconds(self._book.oldest_ms()),
            self._parts.pace.is_open or self._parts.pace.is_braked,
            self._parts.pace.is_braked,
            len(window),
            self._age_seconds(window.reach_ms()),
        )
        self._parts.standings.put(self._assignment.partition, standing)

    def _age_seconds(self, since_ms: int | None) -> float:
        if since_ms is None:
            return 0.0
        return max(0.0, (self._parts.house.clock.now_ms() - since_ms) / 1000)


_TAKEN = frozenset({Outcome.DELIVERED, Outcome.DUPLICATE})


def _unmade(batch: Sequence[Entry]) -> Reply:
    """Return the verdicts on a batch for which no request could be made: find the one at fault."""
    if len(batch) > 1:
        return Reply((Again(Reason.SPLIT, 0.0),) * len(batch))
    return Reply((Done(Outcome.DEAD, Reason.REFUSED, "internal error: no request can be made"),))


async def _first(futures: Sequence["asyncio.Future[Any]"]) -> None:
    """Wait for the first to end; raise what it failed with."""
    done, _ = await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    for each in done:
        if not each.cancelled():
            each.result()


async def _cancel(futures: Sequence["asyncio.Future[Any]"], *, quiet: bool = False) -> None:
    """Cancel and await; raise what any had failed with, unless `quiet`."""
    for each in futures:
        each.cancel()
    results = await asyncio.gather(*futures, return_exceptions=True)
    for result in results:
        if isinstance(result, Exception) and not quiet:
            raise result
