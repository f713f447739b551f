"""The ledger over a buffer in memory: what a person learns of an event."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway import ledger as module
from gateway.adapters.index import SqliteIndex
from gateway.adapters.memory import MemoryBuffer
from gateway.ledger import Ledger, Trace
from gateway.model.envelope import Derived, Envelope, encode
from gateway.model.facts import Routes
from gateway.model.journal import Open, Pause, Snapshot
from gateway.model.life import Filters, LetterFilters, Place, explain
from gateway.model.outcome import Outcome, Reason
from gateway.ports import Draft, IndexFailedError, Log
from tests.written import (
    NOON,
    SetClock,
    attempt,
    bury,
    delivered,
    event,
    judged,
    letter,
    note,
    postponed,
    take,
)

ROUTES: Routes = {
    "shop": {
        "voyado": frozenset({"cart", "product", "recent"}),
        "dub": frozenset({"lead", "sale"}),
        "hook": frozenset({"product"}),
    }
}
DAY = 86_400_000
UUID7 = "019aa5b5-3e00-7000-8000-00000000000a"


class World:
    """A buffer, and ledgers over it."""

    def __init__(self, path: str) -> None:
        self.clock = SetClock()
        self.path = path
        self.buffer = MemoryBuffer(self.clock, partitions=2)
        self._running: list[asyncio.Task[None]] = []

    def ledger(self, routes: Routes = ROUTES) -> Ledger:
        index = SqliteIndex(self.path, 64 << 20)
        ledger = Ledger(self.buffer, index, routes, self.clock)
        self._running.append(asyncio.create_task(ledger.run()))
        return ledger

    async def stop(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        self._running.clear()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    world = World(str(tmp_path / "index.db"))
    yield world
    await world.stop()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for what must become true within ten seconds."""
    async with asyncio.timeout(10):
        while not await condition():
            await asyncio.sleep(0.02)


async def caught_up(ledger: Ledger) -> None:
    async def done() -> bool:
        try:
            reading = await ledger.reading()
        except IndexFailedError:
            return False
        return not reading.behind and not reading.trouble

    await until(done)


def told(trace: Trace) -> dict[str, str]:
    """Return what is told of the one event that was found, per destination."""
    [known] = trace.events or (trace.searched.events if trace.searched else ())
    return {f.destination: explain(f, trace.heard_ms.get(f.destination)) for f in known.fates}


async def test_the_trace_of_a_sale_tells_what_led_to_it_from_the_mailbox_on(world: World) -> None:
    ledger = world.ledger()
    mail = {"orderId": "letter_1", "mailReference": "m-1"}
    await take(
        world.buffer,
        event("order", "mail_order", NOON - 9000, status="printing", **mail),
        event("visit", "mail_visit", NOON - 8000, trackerId="t-1", **mail),
        event("page", "page", NOON - 7000, mailReference="m-1", clickId="k-1"),
        event("sale", "sale", NOON, amount=1, customerId="u-1"),
        event("later", "page", NOON + 5000),
    )
    await caught_up(ledger)
    trace = await ledger.trace("u-1")
    assert [each.known.id for each in trace.behind] == ["order", "visit", "page"]
    assert trace.behind_ids["mailReference"] == ("m-1",)
    assert trace.behind_ids["clickId"] == ("k-1",)
    assert (await ledger.trace("m-1")).behind == ()


def plain(event_id: str, kind: str = "cart", at_ms: int = NOON, **fields: Any) -> Envelope:
    """An event that nothing links to others but its own fields."""
    return dataclasses.replace(event(event_id, kind, at_ms, **fields), context={})


async def test_what_led_to_a_sale_is_found_in_the_logs_where_the_index_does_not_reach(
    world: World,
) -> None:
    """A mail piece is on its way for days. The links are found in whichever order they lie."""
    mail = {"orderId": "letter_1", "mailReference": "m-1"}
    visit = plain("visit", "mail_visit", NOON - 8000, trackerId="t-1", **mail)
    order = plain("order", "mail_order", NOON - 9000, status="printing", orderId="letter_1")
    page = plain("page", "page", NOON - 7000, mailReference="m-1", clickId="k-1")
    sale = plain("sale", "sale", NOON, amount=1, clickId="k-1", customerId="u-1", invoiceId="o-1")
    await take(world.buffer, plain("e-1"), order, visit, page, plain("e-2"))
    world.clock.ms += 3 * DAY
    await take(world.buffer, sale)
    ledger = world.ledger()
    await caught_up(ledger)
    assert (await ledger.trace("o-1")).behind == ()
    trace = await ledger.trace("o-1", older=True)
    assert [each.known.id for each in trace.behind] == ["order", "visit", "page"]
    assert not trace.behind_cut


async def test_what_led_to_a_sale_that_the_index_does_not_reach_is_found_with_it(
    world: World,
) -> None:
    page = plain("page", "page", NOON - 7000, clickId="k-1")
    sale = plain("sale", "sale", NOON, amount=1, clickId="k-1")
    await take(world.buffer, page, sale)
    world.clock.ms += 3 * DAY
    ledger = world.ledger()
    await caught_up(ledger)
    trace = await ledger.trace("sale")
    assert trace.events == ()
    assert [each.known.id for each in trace.behind] == ["page"]


async def test_a_story_that_the_logs_are_too_long_for_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await take(world.buffer, *(plain(f"e-{n}", "page") for n in range(500)))
    world.clock.ms += 2 * DAY
    await take(world.buffer, plain("sale", "sale", NOON, amount=1, invoiceId="o-1", clickId="k-7"))
    ledger = world.ledger()
    await caught_up(ledger)
    monkeypatch.setattr(module, "SEARCH_RECORDS", 300)
    assert (await ledger.trace("o-1", older=True)).behind_cut


async def test_an_event_without_an_outcome_says_what_it_waits_for(world: World) -> None:
    ledger = world.ledger()
    await take(world.buffer, event("e-1"))
    await caught_up(ledger)
    assert told(await ledger.trace("e-1")) == {
        "voyado": "not attempted yet; the destination has written nothing: does deliver run?"
    }
    await note(world.buffer, Snapshot("voyado", 0, NOON))
    await caught_up(ledger)
    await until(lambda: says(ledger, "the destination last wrote at 2026-11-21T12:00:00.000Z"))
    await note(world.buffer, attempt(0))
    await until(lambda: says(ledger, "request made, no answer written yet: POST carts at "))
    await note(world.buffer, postponed(0))
    await until(
        lambda: says(
            ledger,
            "POST carts at 2026-11-21T12:00:02.000Z failed: 503 (unavailable): "
            "Service Unavailable; next attempt from 2026-11-21T12:01:02.000Z",
        )
    )
    await note(world.buffer, delivered(0))
    await until(lambda: says(ledger, "delivered"))
    await note(world.buffer, Snapshot("voyado", 1, NOON))


async def says(ledger: Ledger, words: str) -> bool:
    return words in told(await ledger.trace("e-1"))["voyado"]


async def test_of_what_waits_the_trace_tells_that_the_destination_is_paused(world: World) -> None:
    ledger = world.ledger()
    await take(world.buffer, event("e-1"), event("e-2"))
    await note(world.buffer, postponed(0), delivered(1))
    await note(world.buffer, Pause("voyado", "carts", True, NOON, "POST carts", "HTTP 401"))  # noqa: FBT003 - on
    await caught_up(ledger)
    [standing] = (await ledger.trace("e-1")).paused
    assert [each.detail for each in standing.paused] == ["HTTP 401"]
    assert (await ledger.trace("e-2")).paused == ()


async def test_outcomes_that_are_read_before_their_events_count(world: World) -> None:
    await note(world.buffer, judged(0, Outcome.SKIPPED, Reason.NO_CONTACT))
    ledger = world.ledger()
    await caught_up(ledger)
    await take(world.buffer, event("e-1"))
    await until(lambda: says_any(ledger))
    assert told(await ledger.trace("e-1")) == {"voyado": "skipped (no_contact)"}


async def says_any(ledger: Ledger) -> bool:
    return bool((await ledger.trace("e-1")).events)


async def test_views_from_before_the_contact_go_only_where_a_contact_is_needed(
    world: World,
) -> None:
    view = event("e-2", "product")
    recent = dataclasses.replace(view, derived=Derived("recent", "e-1"))
    await take(world.buffer, event("e-3", "product"), recent)
    ledger = world.ledger()
    await caught_up(ledger)
    assert set(told(await ledger.trace("e-3"))) == {"voyado", "hook"}
    assert set(told(await ledger.trace("e-2"))) == {"voyado"}


async def test_a_record_that_cannot_be_read_is_shown_and_waits_for_every_destination(
    world: World,
) -> None:
    odd = encode(event("e-1")).replace(b'"context":{', b'"context":[],"was":{')
    await world.buffer.publish(Log.EVENTS, [Draft(1, b"\xff no envelope"), Draft(1, odd)])
    ledger = world.ledger()
    await caught_up(ledger)
    for place in ("1-0", "1-1"):
        [known] = (await ledger.trace(place)).events
        assert known.type == "unreadable"
        assert [fate.state for fate in known.fates] == ["waiting"] * 3


async def test_what_is_no_entry_and_no_dead_letter_is_left_out(world: World) -> None:
    for log in (Log.OUTCOMES, Log.DEAD):
        await world.buffer.publish(log, [Draft(0, b"{}"), Draft(0, b"\xff")])
    await take(world.buffer, event("e-1"))
    await note(world.buffer, delivered(0))
    ledger = world.ledger()
    await caught_up(ledger)
    assert told(await ledger.trace("e-1")) == {"voyado": "delivered"}


async def test_an_event_that_ingest_rejected_is_found_by_its_id(world: World) -> None:
    await bury(world.buffer, letter(None, event("e-1"), "ingest"))
    ledger = world.ledger()
    await caught_up(ledger)
    trace = await ledger.trace("e-1")
    assert trace.events == ()
    assert [each.letter.reason for each in trace.letters] == ["missing_field"]
    assert trace.searched is None


async def test_a_dead_letter_that_the_index_lacks_is_read_from_the_log(world: World) -> None:
    ledger = world.ledger()
    await caught_up(ledger)
    await bury(world.buffer, letter(3, event("e-1")))
    place = Place(0, 0)
    found = await ledger.letter(place)
    assert found
    assert found.letter == letter(3, event("e-1"))
    assert await ledger.letter(Place(0, 7)) is None
    assert await ledger.letter(Place(9, 0)) is None
    await until(lambda: _listed(ledger))
    world.buffer.trim(Log.DEAD, 1, 0)


async def _listed(ledger: Ledger) -> bool:
    return len((await ledger.letters(LetterFilters(), None, 10)).letters) == 1


async def test_a_dead_letter_that_retention_removed_is_not_there(world: World) -> None:
    await bury(world.buffer, letter(3, event("e-1")), letter(4, event("e-2")))
    world.buffer.trim(Log.DEAD, 0, 1)
    ledger = world.ledger()
    await caught_up(ledger)
    assert await ledger.letter(Place(0, 0)) is None


async def test_an_event_older_than_the_index_is_read_from_the_logs(world: World) -> None:
    await take(world.buffer, event("e-0"), event("e-1"), event("e-2", "lead"))
    await note(world.buffer, delivered(0), attempt(1), delivered(1))
    world.clock.ms += 2 * DAY
    ledger = world.ledger()
    await caught_up(ledger)
    trace = await ledger.trace("e-1")
    assert trace.events == ()
    assert trace.searched
    assert trace.searched.complete
    assert told(trace) == {"voyado": "delivered"}
    assert [step.kind for step in trace.searched.events[0].steps] == ["attempt", "settled"]
    assert trace.reading.reach_ms == world.clock.ms - DAY
    assert told(await ledger.trace("0-1")) == {"voyado": "delivered"}
    [waiting] = told(await ledger.trace("e-2")).values()
    assert waiting.startswith("not attempted yet")


async def test_what_was_passed_over_long_ago_is_told_so(world: World) -> None:
    await take(world.buffer, event("e-1"))
    await note(world.buffer, Snapshot("voyado", 1, NOON))
    world.clock.ms += 2 * DAY
    ledger = world.ledger()
    await caught_up(ledger)
    assert told(await ledger.trace("e-1")) == {
        "voyado": "nothing is owed: the destination began later in the log, or is not addressed"
    }


async def test_reading_the_logs_stops_at_its_bound_and_says_how_far_it_came(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEARCH_RECORDS", 300)
    for minute in range(10):
        world.clock.ms = NOON + minute * 60_000
        await take(world.buffer, *(event(f"e-{minute}-{n}") for n in range(100)))
    world.clock.ms += 2 * DAY
    ledger = world.ledger()
    await caught_up(ledger)
    searched = (await ledger.trace("e-0-0")).searched
    assert searched
    assert (searched.events, searched.complete) == ((), False)
    assert NOON < searched.back_to_ms < NOON + 9 * 60_000
    while not searched.events:
        searched = (await ledger.trace("e-0-0", before_ms=searched.back_to_ms)).searched
        assert searched
    assert [known.id for known in searched.events] == ["e-0-0"]


async def test_when_the_outcome_log_is_too_long_the_answer_says_so(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEARCH_RECORDS", 100)
    await take(world.buffer, event("e-1"))
    await note(world.buffer, *(delivered(9) for _ in range(500)), delivered(0))
    world.clock.ms += 2 * DAY
    ledger = world.ledger()
    await caught_up(ledger)
    assert told(await ledger.trace("e-1")) == {
        "voyado": "the outcome log was not read to its end: too much for one question"
    }


async def test_an_id_that_tells_its_time_is_looked_for_there_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEARCH_RECORDS", 300)
    made_ms = module._made_ms(UUID7)
    assert made_ms is not None
    world.clock.ms = made_ms + 1000
    await take(world.buffer, event(UUID7))
    world.clock.ms += DAY
    await take(world.buffer, *(event(f"e-{n}") for n in range(1000)))
    world.clock.ms += 2 * DAY
    ledger = world.ledger()
    await caught_up(ledger)
    assert list(told(await ledger.trace(UUID7))) == ["voyado"]
    absent = UUID7[:-1] + "b"
    searched = (await ledger.trace(absent)).searched
    assert searched
    assert not searched.complete


async def test_the_index_is_continued_after_a_restart(world: World) -> None:
    await take(world.buffer, event("e-1"))
    await caught_up(world.ledger())
    await world.stop()
    await take(world.buffer, event("e-2"))
    ledger = world.ledger()
    await caught_up(ledger)
    for name in ("e-1", "e-2"):
        assert len((await ledger.trace(name)).events) == 1


@pytest.mark.parametrize("change", ["emptied", "other records", "fewer partitions"])
async def test_the_index_begins_anew_when_the_buffer_is_another(world: World, change: str) -> None:
    await take(world.buffer, event("e-1"), event("e-2"), partition=1)
    await caught_up(world.ledger())
    await world.stop()
    world.buffer = MemoryBuffer(world.clock, 1 if change == "fewer partitions" else 2)
    if change == "other records":
        world.clock.ms += 1
        await take(world.buffer, event("e-3"), event("e-4"), event("e-5"), partition=1)
    ledger = world.ledger()
    await caught_up(ledger)
    assert (await ledger.trace("e-1")).events == ()


async def test_it_follows_on_after_the_buffer_was_away(world: World) -> None:
    world.buffer.outage = True
    ledger = world.ledger()
    await until(lambda: _trouble(ledger, "the buffer does not answer"))
    world.buffer.outage = False
    await take(world.buffer, event("e-1"))
    await caught_up(ledger)
    world.buffer.outage = True
    await until(lambda: _trouble(ledger, "the buffer does not answer"))
    assert len(await ledger._index.find("e-1", 1)) == 1
    world.buffer.outage = False
    await take(world.buffer, event("e-2"))
    await caught_up(ledger)
    assert len((await ledger.trace("e-2")).events) == 1


async def test_what_cannot_be_erased_now_is_erased_later(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "FORGET_SECONDS", 0.01)
    await take(world.buffer, event("e-1"))
    ledger = world.ledger()
    await caught_up(ledger)
    world.buffer.outage = True

    async def said() -> bool:
        return "the index can't forget now, trying again" in caplog.text

    await until(said)
    world.clock.ms += DAY // 2
    world.buffer.outage = False
    await take(world.buffer, event("e-2"))
    for log in (Log.EVENTS, Log.OUTCOMES, Log.DEAD):
        world.buffer.trim(log, 0, 1)

    async def erased() -> bool:
        return not await ledger._index.find("e-1", 1)

    await until(erased)


async def test_trouble_that_goes_on_is_said_once(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "AGAIN_SECONDS", 0.01)
    asked: list[None] = []
    offset_at = world.buffer.offset_at

    async def counted(log: Log, partition: int, time_ms: int) -> int:
        asked.append(None)
        return await offset_at(log, partition, time_ms)

    monkeypatch.setattr(world.buffer, "offset_at", counted)
    world.buffer.outage = True
    ledger = world.ledger()

    async def tried_often() -> bool:
        return len(asked) > 5

    await until(tried_often)
    world.buffer.outage = False
    await caught_up(ledger)
    assert caplog.text.count("the ledger can't read on") == 1


async def _trouble(ledger: Ledger, words: str) -> bool:
    try:
        return words in (await ledger.reading()).trouble
    except IndexFailedError:
        return any(words in text for text in ledger._trouble.values())


async def test_it_goes_on_at_the_oldest_record_left(world: World) -> None:
    ledger = world.ledger()
    await caught_up(ledger)
    await take(world.buffer, *(event(f"e-{n}") for n in range(5)))
    world.buffer.trim(Log.EVENTS, 0, 4)
    await caught_up(ledger)
    assert len((await ledger.trace("e-4")).events) == 1


async def test_tail_waits_for_news(world: World) -> None:
    ledger = world.ledger()
    await caught_up(ledger)
    page = await ledger.tail(Filters(), None, 10, 0)
    assert page.events == ()
    waiting = asyncio.create_task(ledger.tail(Filters(), page.cursor, 10, 10))
    await take(world.buffer, event("e-1"))
    page = await waiting
    assert [known.id for known in page.events] == ["e-1"]
    waiting = asyncio.create_task(ledger.tail(Filters(outcome="dead"), page.cursor, 10, 10))
    await note(world.buffer, attempt(0))
    await note(world.buffer, judged(0, Outcome.DEAD, Reason.REFUSED))
    page = await waiting
    assert [fate.state for fate in page.events[0].fates] == ["dead"]
    assert (await ledger.tail(Filters(), page.cursor, 10, 0.05)).events == ()


async def test_the_summary_names_every_destination_and_what_waits(world: World) -> None:
    await take(world.buffer, event("e-1"), event("e-2"))
    await note(world.buffer, delivered(0), postponed(1))
    ledger = world.ledger()
    await caught_up(ledger)
    standings = {each.destination: each for each in (await ledger.summary()).destinations}
    assert set(standings) == {"voyado", "dub", "hook"}
    assert standings["voyado"].waiting == 1
    assert standings["dub"].heard_ms is None
    assert await ledger.summary() is await ledger.summary()


async def test_what_waits_since_before_the_index_is_not_forgotten(world: World) -> None:
    await take(world.buffer, event("e-1"), event("e-2"))
    world.clock.ms += 2 * DAY
    await note(world.buffer, Snapshot("voyado", 0, world.clock.ms))
    ledger = world.ledger()
    await caught_up(ledger)
    standings = {each.destination: each for each in (await ledger.summary()).destinations}
    assert standings["voyado"].oldest_ms == NOON


async def test_an_index_that_fails_is_tried_again_and_said(world: World) -> None:
    await take(world.buffer, event("e-1"))
    path = Path(world.path)
    await asyncio.to_thread(path.mkdir)
    ledger = world.ledger()
    await until(lambda: _trouble(ledger, "the index failed"))
    await asyncio.to_thread(path.rmdir)
    await caught_up(ledger)
    assert len((await ledger.trace("e-1")).events) == 1


async def test_while_the_buffer_is_away_what_is_indexed_is_told_with_a_warning(
    world: World,
) -> None:
    await take(world.buffer, event("e-1"))
    await note(world.buffer, Snapshot("voyado", 0, NOON))
    ledger = world.ledger()
    await caught_up(ledger)
    world.buffer.outage = True
    trace = await ledger.trace("e-1")
    assert len(trace.events) == 1
    assert "does not answer" in trace.reading.trouble


async def test_an_event_that_retention_removed_is_not_there(world: World) -> None:
    await take(world.buffer, event("e-1"), event("e-2"))
    world.clock.ms += 2 * DAY
    world.buffer.trim(Log.EVENTS, 0, 1)
    ledger = world.ledger()
    await caught_up(ledger)
    searched = (await ledger.trace("0-0")).searched
    assert searched
    assert searched.events == ()


async def test_what_the_logs_have_removed_is_erased_from_the_index_too(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FORGET_SECONDS", 0.01)
    secret = "anna@example.com"
    await take(world.buffer, event("e-1", "lead", customerEmail=secret))
    await note(world.buffer, delivered(0))
    await bury(world.buffer, letter(0, event("e-1", "lead", customerEmail=secret)))
    ledger = world.ledger()
    await caught_up(ledger)
    assert (await ledger.trace("e-1")).events
    world.clock.ms += DAY // 2
    await take(world.buffer, event("e-2"))
    for log in (Log.EVENTS, Log.OUTCOMES, Log.DEAD):
        world.buffer.trim(log, 0, 1)

    async def forgotten() -> bool:
        found = await ledger.events(Filters(), None, 10)
        letters = await ledger.letters(LetterFilters(), None, 10)
        return [each.id for each in found.events] == ["e-2"] and not letters.letters

    await until(forgotten)
    await world.stop()
    kept = await asyncio.to_thread(Path(world.path).read_bytes)
    assert secret.encode() not in kept


async def test_what_was_attempted_and_then_passed_over_is_told_so(world: World) -> None:
    await take(world.buffer, event("e-1"))
    await note(world.buffer, attempt(0), postponed(0), attempt(7), Snapshot("voyado", 1, NOON))
    world.clock.ms += 2 * DAY
    ledger = world.ledger()
    await caught_up(ledger)
    assert "nothing is owed" in told(await ledger.trace("e-1"))["voyado"]


async def test_a_failed_attempt_beyond_the_index_is_told(world: World) -> None:
    await take(world.buffer, event("e-1"))
    await note(world.buffer, attempt(0), postponed(0), Snapshot("voyado", 1, NOON, (Open(0, 1),)))
    world.clock.ms += 2 * DAY
    ledger = world.ledger()
    await caught_up(ledger)
    assert "failed: 503 (unavailable)" in told(await ledger.trace("e-1"))["voyado"]


async def test_an_index_that_fails_on_the_way_is_tried_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = world.ledger()
    await caught_up(ledger)
    put = SqliteIndex.put

    async def fail(*_: object) -> None:
        raise IndexFailedError("the disk is full")

    monkeypatch.setattr(SqliteIndex, "put", fail)
    await take(world.buffer, event("e-1"))
    await until(lambda: _trouble(ledger, "the disk is full"))
    monkeypatch.setattr(SqliteIndex, "put", put)
    await caught_up(ledger)
    assert len((await ledger.trace("e-1")).events) == 1


async def test_a_dead_record_that_cannot_be_read_is_no_dead_letter(world: World) -> None:
    await world.buffer.publish(Log.DEAD, [Draft(0, b"[]"), Draft(0, b'{"v": 9}')])
    odd = [dataclasses.replace(letter(None, event("e-1")), event=e) for e in (7, {"event": [1]})]
    await bury(world.buffer, *odd)
    ledger = world.ledger()
    await caught_up(ledger)
    assert await ledger.letter(Place(0, 0)) is None
    page = await ledger.letters(LetterFilters(), None, 10)
    assert [(each.place.offset, each.id) for each in page.letters] == [(3, ""), (2, "")]


async def test_every_tail_gets_the_news_and_only_what_it_asked_for(world: World) -> None:
    ledger = world.ledger()
    await caught_up(ledger)
    cursor = (await ledger.tail(Filters(), None, 10, 0)).cursor
    asked = [Filters(), Filters(type="cart"), Filters(site="other"), Filters(destination="dub")]
    tails = [asyncio.create_task(ledger.tail(each, cursor, 10, 1.5)) for each in asked]
    await take(world.buffer, event("e-1"))
    pages = await asyncio.gather(*tails)
    assert [len(page.events) for page in pages] == [1, 1, 0, 0]


async def test_in_the_logs_too_an_id_is_an_id_and_not_any_text(world: World) -> None:
    await take(world.buffer, event("e-1", title="e-2"), event("e-2"), event("e-3"))
    await note(world.buffer, postponed(0), delivered(0, 1), postponed(2))
    world.clock.ms += 2 * DAY
    ledger = world.ledger()
    await caught_up(ledger)
    searched = (await ledger.trace("e-2")).searched
    assert searched
    assert [known.place for known in searched.events] == [Place(0, 1)]
    assert [step.kind for step in searched.events[0].steps] == ["settled"]
    nothing = (await ledger.trace("0-99")).searched
    assert nothing
    assert nothing.events == ()


async def test_it_catches_up_at_once_where_an_answer_must_know_all(world: World) -> None:
    ledger = world.ledger()
    with pytest.raises(IndexFailedError, match="ask again"):
        await ledger.catch_up(Log.DEAD)
    await caught_up(ledger)
    await bury(world.buffer, *(letter(n, event(f"e-{n}")) for n in range(3)), partition=1)
    world.buffer.trim(Log.DEAD, 1, 2)
    await ledger.catch_up(Log.DEAD)
    page = await ledger.letters(LetterFilters(), None, 10)
    assert [each.place for each in page.letters] == [Place(1, 2)]
