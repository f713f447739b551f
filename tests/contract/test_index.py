"""What the ledger expects of any `Index`."""

import asyncio
import dataclasses
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.adapters.clock import SystemClock
from gateway.adapters.index import SqliteIndex
from gateway.adapters.index import index as module
from gateway.adapters.sqlite.buffer import SqliteBuffer
from gateway.adapters.sqlite.settings import SqliteSettings
from gateway.model import dead, envelope
from gateway.model.attempt import Tried
from gateway.model.dead import Decision, Deed, Handled, Subject
from gateway.model.envelope import Envelope, Replay
from gateway.model.facts import read_event, read_letter
from gateway.model.journal import Answer, Entry, Open, Pause, Postponed, Settled, Snapshot
from gateway.model.life import (
    Fact,
    Filters,
    Handling,
    Known,
    LetterFilters,
    Noted,
    Paused,
    Place,
    Taken,
    explain,
)
from gateway.model.outcome import Outcome, Reason
from gateway.model.window import DedupSettings
from gateway.ports import IndexFailedError, Log, Mark
from tests.written import (
    NOON,
    attempt,
    delivered,
    derived,
    event,
    judged,
    letter,
    postponed,
)

ROUTES = {"shop": {"voyado": frozenset({"cart"}), "dub": frozenset({"lead", "cart"})}}
SINCE = NOON - 86_400_000
EVERYTHING = Filters()
ALL_LETTERS = LetterFilters()


class Filled:
    """An index, and short words to fill it."""

    def __init__(self, index: SqliteIndex) -> None:
        self.index = index
        self._next = dict.fromkeys(Log, 0)

    async def put(self, log: Log, *facts: Fact) -> None:
        self._next[log] += 100
        await self.index.put(log, 0, Mark(self._next[log], NOON), facts)

    async def take(self, offset: int, made: Envelope, time_ms: int = NOON) -> None:
        await self.put(Log.EVENTS, taken(offset, made, time_ms))

    async def note(self, at: int, entry: Entry, time_ms: int = NOON + 1) -> None:
        await self.put(Log.OUTCOMES, Noted(Place(0, at), time_ms, entry))

    async def states(self, value: str) -> dict[str, str]:
        [known] = await self.index.find(value, 10)
        return {fate.destination: fate.state for fate in known.fates}


def taken(offset: int, made: Envelope, time_ms: int = NOON) -> Taken:
    return read_event(Place(0, offset), time_ms, envelope.encode(made), ROUTES)


def harm(path: Path, damage: str) -> None:
    if damage == "lost":
        path.unlink()
    if damage == "broken":
        with path.open("r+b") as file:
            file.seek(100)  # past the header, which says that it is an index
            file.write(b"no database" * 1000)


def ids(events: tuple[Known, ...] | list[Known]) -> list[str]:
    return [known.id for known in events]


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "sub" / "index.db")


@pytest.fixture
async def filled(path: str) -> AsyncIterator[Filled]:
    index = SqliteIndex(path, 64 << 20)
    await index.start("routes", SINCE)
    yield Filled(index)
    await index.stop()


@pytest.mark.parametrize(
    "value", ["e-1", "c-1", "u-1", "k-1", "v-1", "s-1", "o-77", "click-1", "mail-1", "0-7"]
)
async def test_an_event_is_found_by_any_of_its_ids(filled: Filled, value: str) -> None:
    fields: dict[str, Any] = {"cartReference": "c-1", "customerId": "u-1", "contactId": "k-1"}
    fields |= {"invoiceId": "o-77", "clickId": "click-1", "mailReference": "mail-1"}
    await filled.take(7, event("e-1", **fields))
    await filled.take(8, dataclasses.replace(event("other"), context={}))
    assert ids(await filled.index.find(value, 10)) == ["e-1"]


async def test_an_event_that_ingest_derived_is_found_by_its_cause(filled: Filled) -> None:
    await filled.take(1, derived("close-1", cause="sale-1"))
    assert ids(await filled.index.find("sale-1", 10)) == ["close-1"]


async def test_an_event_waits_until_its_outcome(filled: Filled) -> None:
    await filled.take(1, event("e-1"))
    assert await filled.states("e-1") == {"voyado": "waiting", "dub": "waiting"}
    await filled.note(1, delivered(1))
    assert await filled.states("e-1") == {"voyado": "delivered", "dub": "waiting"}


async def test_an_outcome_may_come_before_its_event(filled: Filled) -> None:
    await filled.note(1, delivered(1))
    await filled.take(1, event("e-1"))
    assert await filled.states("e-1") == {"voyado": "delivered", "dub": "waiting"}


async def test_the_first_outcome_in_the_log_counts(filled: Filled) -> None:
    await filled.take(1, event("e-1"))
    await filled.note(1, delivered(1))
    await filled.note(2, judged(1, Outcome.DEAD, Reason.EXPIRED))
    assert (await filled.states("e-1"))["voyado"] == "delivered"
    standings = {each.destination: each for each in await filled.index.standings(NOON)}
    assert standings["voyado"].hour == {"delivered": 1}


async def test_steps_tell_requests_and_answers_in_order(filled: Filled) -> None:
    await filled.take(1, event("e-1"))
    await filled.note(1, attempt(1))
    await filled.note(2, postponed(1))
    await filled.note(3, attempt(1))
    [known] = await filled.index.find("e-1", 10)
    assert [(step.kind, step.status, step.text) for step in known.steps] == [
        ("attempt", None, '{"cart": 1}'),
        ("postponed", 503, "try later"),
        ("attempt", None, '{"cart": 1}'),
    ]
    voyado = next(fate for fate in known.fates if fate.destination == "voyado")
    assert voyado.last == known.steps[-1]


async def test_of_very_many_steps_the_last_are_given(filled: Filled) -> None:
    await filled.take(1, event("e-1"))
    facts = [Noted(Place(0, at), NOON, postponed(1, at_ms=NOON + at)) for at in range(250)]
    await filled.put(Log.OUTCOMES, *facts)
    [known] = await filled.index.find("e-1", 10)
    assert (len(known.steps), known.steps_left_out, known.steps[-1].at) == (200, 50, 249)


@pytest.mark.parametrize("first", ["the event", "the snapshot"])
async def test_what_a_destination_has_gone_past_does_not_wait(filled: Filled, first: str) -> None:
    facts = [taken(offset, event(f"e-{offset}")) for offset in (1, 2, 9)]
    if first == "the event":
        await filled.put(Log.EVENTS, *facts)
    await filled.note(1, Snapshot("voyado", 5, NOON, (Open(2, 1),)))
    if first == "the snapshot":
        await filled.put(Log.EVENTS, *facts)
    states = [(await filled.states(f"e-{offset}"))["voyado"] for offset in (1, 2, 9)]
    assert states == ["passed", "waiting", "waiting"]


async def test_a_copy_points_to_the_first(filled: Filled) -> None:
    for offset in (3, 4, 5):
        await filled.take(offset, event("e-1"), NOON + offset)
    assert [known.copy_of for known in await filled.index.find("e-1", 10)] == [
        Place(0, 3),
        Place(0, 3),
        None,
    ]


async def test_pages_are_newest_first_and_continue(filled: Filled) -> None:
    for number in range(5):
        await filled.take(number, event(f"e-{number}"), NOON + number)
    page = await filled.index.events(EVERYTHING, None, 2)
    assert ids(page.events) == ["e-4", "e-3"]
    page = await filled.index.events(EVERYTHING, page.cursor, 2)
    assert ids(page.events) == ["e-2", "e-1"]
    page = await filled.index.events(EVERYTHING, page.cursor, 2)
    assert (ids(page.events), page.cursor) == (["e-0"], None)


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        (Filters(type="lead"), ["e-3"]),
        (Filters(site="shop"), ["e-3", "e-2", "e-1"]),
        (Filters(site="other"), []),
        (Filters(destination="voyado"), ["e-2", "e-1"]),
        (Filters(outcome="delivered"), ["e-1"]),
        (Filters(outcome="delivered", destination="dub"), []),
        (Filters(outcome="waiting"), ["e-3", "e-2", "e-1"]),
        (Filters(outcome="waiting", destination="voyado"), ["e-2"]),
        (Filters(outcome="waiting", type="lead"), ["e-3"]),
    ],
)
async def test_events_are_filtered(filled: Filled, filters: Filters, found: list[str]) -> None:
    await filled.take(1, event("e-1"), NOON + 1)
    await filled.take(2, event("e-2"), NOON + 2)
    await filled.take(3, event("e-3", "lead"), NOON + 3)
    await filled.note(1, delivered(1))
    page = await filled.index.events(filters, None, 10)
    assert ids(page.events) == found


async def test_changes_tell_of_new_events_and_of_new_outcomes(filled: Filled) -> None:
    await filled.take(1, event("e-1"))
    await filled.take(2, event("e-2"))
    page = await filled.index.changes(None, 10)
    assert ids(page.events) == ["e-1", "e-2"]
    await filled.note(1, delivered(1))
    page = await filled.index.changes(page.cursor, 10)
    assert ids(page.events) == ["e-1"]
    assert (await filled.index.changes(page.cursor, 10)).events == ()


@pytest.mark.parametrize("cursor", ["nonsense", "0.0.0.0", "abcd1234.99", "..", "é.٣"])
async def test_a_cursor_that_means_nothing_begins_with_the_newest(
    filled: Filled, cursor: str
) -> None:
    await filled.take(1, event("e-1"))
    assert ids((await filled.index.changes(cursor, 10)).events) == ["e-1"]
    assert ids((await filled.index.events(EVERYTHING, cursor, 10)).events) == ["e-1"]


async def test_dead_letters_are_listed_found_and_linked(filled: Filled) -> None:
    made = event("e-1")
    await filled.take(1, made)
    await filled.note(1, judged(1, Outcome.DEAD, Reason.REFUSED))
    for offset, (of, destination) in enumerate([(1, "voyado"), (None, "ingest")]):
        written = letter(of, made, destination)
        buried = read_letter(Place(0, offset), NOON + offset, dead.encode(written))
        assert buried
        await filled.put(Log.DEAD, buried)
    page = await filled.index.letters(ALL_LETTERS, None, 1)
    assert [each.letter.destination for each in page.letters] == ["ingest"]
    page = await filled.index.letters(ALL_LETTERS, page.cursor, 1)
    assert [each.letter for each in page.letters] == [letter(1, made)]
    page = await filled.index.letters(
        LetterFilters(destination="voyado", reason="expired"), None, 9
    )
    assert page.letters == ()
    assert len(await filled.index.find_letters("e-1", 10)) == 2
    found = await filled.index.letter(Place(0, 0))
    assert found
    assert (found.id, found.type) == ("e-1", "cart")
    assert await filled.index.letter(Place(0, 9)) is None
    [known] = await filled.index.find("e-1", 10)
    assert {fate.destination: fate.letter for fate in known.fates} == {
        "voyado": Place(0, 0),
        "dub": None,
    }


async def test_standings_tell_what_waits_since_when_and_what_went_wrong(filled: Filled) -> None:
    await filled.take(1, event("e-1"), NOON - 5000)
    await filled.take(2, event("e-2"), NOON)
    await filled.note(1, postponed(1, at_ms=NOON + 7))
    standings = {each.destination: each for each in await filled.index.standings(NOON)}
    voyado = standings["voyado"]
    assert (voyado.waiting, voyado.oldest_ms, voyado.heard_ms) == (2, NOON - 5000, NOON + 7)
    assert voyado.trouble
    assert (voyado.trouble.reason, voyado.trouble.status) == ("unavailable", 503)
    assert standings["dub"].trouble is None


async def test_what_was_taken_in_survives_a_restart(filled: Filled, path: str) -> None:
    await filled.take(1, event("e-1"))
    await filled.index.stop()
    again = SqliteIndex(path, 64 << 20)
    assert await again.start("routes", SINCE) == {(Log.EVENTS, 0): Mark(100, NOON)}
    assert ids(await again.find("e-1", 10)) == ["e-1"]
    await again.stop()


@pytest.mark.parametrize("damage", ["lost", "broken", "other routes", "cleared"])
async def test_it_begins_anew_when_its_file_is_of_no_use(
    filled: Filled, path: str, damage: str
) -> None:
    await filled.take(1, event("e-1"))
    old = (await filled.index.changes(None, 10)).cursor
    await filled.index.stop()
    harm(Path(path), damage)
    again = SqliteIndex(path, 64 << 20)
    marks = await again.start("changed" if damage == "other routes" else "routes", SINCE + 5)
    if damage == "cleared":
        await again.clear(SINCE + 5)
        marks = {}
    assert marks == {}
    assert await again.find("e-1", 10) == []
    assert await again.reach_ms() == SINCE + 5
    await Filled(again).take(1, event("e-2"))
    assert ids((await again.changes(old, 10)).events) == ["e-2"]
    await again.stop()


@pytest.mark.parametrize("kind", ["a text", "the embedded log"])
async def test_a_file_that_is_no_index_is_left_as_it_is(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "precious"
    if kind == "a text":
        path.write_bytes(b"no index")
    else:
        log = SqliteBuffer(SqliteSettings(path=path), SystemClock(), (), DedupSettings())
        await log.start()
        await log.stop()
    before = path.read_bytes()
    index = SqliteIndex(str(path), 64 << 20)
    with pytest.raises(IndexFailedError, match="precious is no index of this gateway"):
        await index.start("routes", SINCE)
    await index.stop()
    assert path.read_bytes() == before


async def test_what_it_forgets_is_erased_and_what_is_younger_stays(
    filled: Filled, path: str
) -> None:
    for offset, time_ms in ((1, NOON), (2, NOON + 1000)):
        made = event(f"e-{offset}", "lead", customerEmail=f"anna{offset}@example.com")
        await filled.take(offset, made, time_ms)
        buried = read_letter(Place(0, offset), time_ms, dead.encode(letter(offset, made)))
        assert buried is not None
        await filled.put(Log.DEAD, buried)
    await filled.index.forget(NOON + 1000, NOON + 1000)
    assert ids((await filled.index.events(EVERYTHING, None, 10)).events) == ["e-2"]
    assert await filled.index.find("e-1", 10) == []
    assert [
        each.place.offset for each in (await filled.index.letters(ALL_LETTERS, None, 10)).letters
    ] == [2]
    assert await filled.index.find_letters("e-1", 10) == []
    assert await filled.index.reach_ms() == NOON + 1000
    await filled.index.forget(NOON, NOON)
    assert await filled.index.reach_ms() == NOON + 1000
    await filled.index.stop()
    kept = await asyncio.to_thread(Path(path).read_bytes)
    assert b"anna1@" not in kept
    assert b"anna2@" in kept


async def test_it_keeps_to_its_size_by_removing_the_oldest(path: str) -> None:
    limit = 4 << 20
    index = SqliteIndex(path, limit)
    await index.start("routes", SINCE)
    filled = Filled(index)
    for hundred in range(80):
        offsets = range(hundred * 100, hundred * 100 + 100)
        time_ms = NOON + hundred
        facts = [taken(at, event(f"e-{at}", title="x" * 500), time_ms) for at in offsets]
        await filled.put(Log.EVENTS, *facts)
        await filled.note(hundred, delivered(*offsets), time_ms)
    reach_ms = await index.reach_ms()
    assert reach_ms > NOON
    assert await index.find("e-0", 1) == []
    assert ids(await index.find("e-7999", 1)) == ["e-7999"]
    oldest = (reach_ms - NOON) * 100
    assert ids(await index.find(f"e-{oldest}", 1)) == [f"e-{oldest}"]
    await index.stop()
    assert os.stat(path).st_size <= limit  # noqa: PTH116 - once, nobody waits


async def test_dead_letters_take_a_quarter_of_the_room_at_most(path: str) -> None:
    index = SqliteIndex(path, 4 << 20)
    await index.start("routes", SINCE)
    filled = Filled(index)
    made = event("e-1", title="x" * 5000)
    for number in range(0, 1000, 50):
        facts = [
            read_letter(Place(0, n), NOON + n, dead.encode(letter(n, made)))
            for n in range(number, number + 50)
        ]
        await filled.put(Log.DEAD, *(fact for fact in facts if fact))
    assert await index.letter(Place(0, 0)) is None
    assert await index.letter(Place(0, 999))
    assert await index.find_letters("e-1", 1)
    await index.stop()


async def test_a_question_that_takes_too_long_is_given_up(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = [taken(at, event(f"e-{at}")) for at in range(2000)]
    await filled.put(Log.EVENTS, *facts)
    monkeypatch.setattr(module, "ANSWER_SECONDS", -1.0)
    with pytest.raises(IndexFailedError, match="took too long"):
        await filled.index.events(Filters(site="other"), None, 10)
    monkeypatch.undo()
    assert (await filled.index.events(Filters(site="other"), None, 10)).events == ()


async def test_before_the_start_and_after_the_end_it_says_that_it_is_not_open(path: str) -> None:
    index = SqliteIndex(path, 64 << 20)
    with pytest.raises(IndexFailedError, match="not open"):
        await index.reach_ms()
    await index.start("routes", SINCE)
    await index.stop()
    await index.stop()
    with pytest.raises(IndexFailedError, match="not open"):
        await index.reach_ms()


async def test_a_place_that_can_hold_no_file_is_an_error_in_words(tmp_path: Path) -> None:
    index = SqliteIndex(str(tmp_path), 64 << 20)
    with pytest.raises(IndexFailedError, match="the index failed"):
        await index.start("routes", SINCE)
    await index.stop()


async def test_a_record_of_the_wrong_types_stops_nothing(filled: Filled) -> None:
    listed: Any = ["e-2"]
    wrong = dataclasses.replace(taken(2, event("e-2")), dedup_key=listed)
    huge = dataclasses.replace(taken(3, event("e-3")), time_ms=1 << 80)
    await filled.put(Log.EVENTS, taken(1, event("e-1")), wrong, huge, taken(4, event("e-4")))
    assert ids(await filled.index.find("v-1", 9)) == ["e-4", "e-1"]


async def test_the_oldest_open_record_is_the_first_without_an_outcome(filled: Filled) -> None:
    await filled.note(1, Snapshot("voyado", 9, NOON, (Open(2, 1), Open(4, 1))))
    await filled.note(2, delivered(2))
    [voyado] = await filled.index.standings(NOON)
    assert voyado.behind == (Place(0, 4),)
    await filled.note(3, delivered(4))
    [voyado] = await filled.index.standings(NOON)
    assert voyado.behind == (Place(0, 9),)
    await filled.note(4, delivered(12))
    [voyado] = await filled.index.standings(NOON)
    assert voyado.behind == ()


def decided(at: int, deed: Deed, offset: int, number: int = 1, became: int | None = None) -> Fact:
    decision = Decision(deed, NOON + at, (Handled("dub", offset, number, became),))
    fact = read_letter(Place(0, at), NOON + at, dead.encode(decision))
    assert fact is not None
    return fact


def buried(at: int, offset: int | None = 1, number: int = 1, destination: str = "dub") -> Fact:
    written = dataclasses.replace(letter(offset, event("e-1"), destination), number=number)
    fact = read_letter(Place(0, at), NOON + at, dead.encode(written))
    assert fact is not None
    return fact


async def states_of_letters(index: SqliteIndex) -> dict[str, str]:
    page = await index.letters(ALL_LETTERS, None, 10)
    return {str(each.place): each.state for each in page.letters}


async def test_a_letter_is_open_until_it_is_replayed_or_dropped(filled: Filled) -> None:
    await filled.put(Log.DEAD, buried(0), buried(1, 2), buried(2, 3), buried(3, 3, 2))
    await filled.put(Log.DEAD, decided(4, Deed.ASKED, 1), decided(5, Deed.ASKED, 2))
    await filled.put(Log.DEAD, decided(6, Deed.REPLAYED, 2, became=9), decided(7, Deed.DROPPED, 3))
    await filled.put(Log.DEAD, decided(8, Deed.DROPPED, 2), decided(9, Deed.ASKED, 3))
    expected = {"0-3": "open", "0-2": "dropped", "0-1": "replayed", "0-0": "open"}
    assert await states_of_letters(filled.index) == expected
    for state in ("open", "replayed", "dropped"):
        page = await filled.index.letters(LetterFilters(state=state), None, 10)
        assert [str(each.place) for each in page.letters] == [
            place for place, is_in in expected.items() if is_in == state
        ]
    found = await filled.index.letter(Place(0, 1))
    assert found is not None
    assert found.handling == Handling(Deed.REPLAYED, NOON + 6, Place(0, 9))
    asked = await filled.index.letter(Place(0, 0))
    assert asked is not None
    assert "was asked for at 2026-11-21T12:00:00.004Z" in str(asked.handling)


async def test_letters_are_asked_for_by_time(filled: Filled) -> None:
    await filled.put(Log.DEAD, *(buried(at, at) for at in range(1, 5)))
    between = LetterFilters(since_ms=NOON + 2, until_ms=NOON + 4)
    page = await filled.index.letters(between, None, 10)
    assert [str(each.place) for each in page.letters] == ["0-3", "0-2"]


async def test_a_replay_found_in_the_log_tells_that_the_letter_was_replayed(filled: Filled) -> None:
    await filled.take(1, event("e-1"))
    await filled.put(Log.DEAD, buried(0), decided(1, Deed.ASKED, 1))
    await filled.note(1, judged(1, Outcome.DEAD, Reason.REFUSED, "dub"))
    again = dataclasses.replace(
        event("e-1"), dedup_key="replay", replay=Replay("dub", 1, 1, NOON, Tried.NEVER)
    )
    await filled.take(5, again)
    assert await states_of_letters(filled.index) == {"0-0": "replayed"}
    replayed, first = await filled.index.find("e-1", 10)
    assert [each.destination for each in replayed.fates] == ["dub"]
    fate = next(each for each in first.fates if each.destination == "dub")
    assert (fate.letter, fate.handling and fate.handling.became) == (Place(0, 0), Place(0, 5))
    assert "replayed at 2026-11-21T12:00:00.000Z as 0-5" in explain(fate, None)


async def test_what_was_done_is_known_longer_than_the_letter(filled: Filled) -> None:
    await filled.put(Log.DEAD, decided(1, Deed.DROPPED, 1))
    handling = await filled.index.handling(0, Subject("dub", 1, 1))
    assert handling == Handling(Deed.DROPPED, NOON + 1)
    assert await filled.index.handling(0, Subject("dub", 1, 2)) is None
    later = 32 * 86_400_000
    await filled.put(Log.DEAD, decided(later, Deed.DROPPED, 7))
    assert await filled.index.handling(0, Subject("dub", 1, 1)) is None


async def test_a_rejected_event_is_told_by_its_letters_own_place(filled: Filled) -> None:
    await filled.put(Log.DEAD, buried(0, None, 1, "ingest"), buried(1, None, 1, "ingest"))
    done = Decision(Deed.REPLAYED, NOON, (Handled("ingest", 1, 0),))
    fact = read_letter(Place(0, 2), NOON, dead.encode(done))
    assert fact is not None
    await filled.put(Log.DEAD, fact)
    assert await states_of_letters(filled.index) == {"0-1": "replayed", "0-0": "open"}


def pause(*, on: bool, endpoint: str = "POST carts") -> Pause:
    return Pause("voyado", "carts", on, NOON, endpoint, "HTTP 401")


async def paused(index: SqliteIndex) -> tuple[Paused, ...]:
    return next(e.paused for e in await index.standings(NOON) if e.destination == "voyado")


async def test_a_paused_destination_is_told_until_it_goes_on(filled: Filled) -> None:
    await filled.note(1, pause(on=True))
    assert await paused(filled.index) == (Paused("POST carts", NOON, "HTTP 401"),)
    await filled.note(2, pause(on=False))
    assert await paused(filled.index) == ()
    await filled.note(3, pause(on=True))
    await filled.note(4, judged(1, Outcome.DUPLICATE, Reason.REPEATED))
    assert len(await paused(filled.index)) == 1
    await filled.note(5, delivered(2))  # by another process, with mended settings
    assert await paused(filled.index) == ()


async def test_a_pause_is_over_when_one_of_its_kind_goes_through_by_whatever_path(
    filled: Filled,
) -> None:
    """At Voyado one cart alone and several have each their path."""
    await filled.note(1, pause(on=True, endpoint="POST carts/batch"))
    await filled.note(2, dataclasses.replace(delivered(1), request_kind="views"))
    assert len(await paused(filled.index)) == 1
    await filled.note(3, delivered(2))
    assert await paused(filled.index) == ()


@pytest.mark.parametrize(
    ("outcome", "reason", "over"),
    [
        (Outcome.DEAD, Reason.REFUSED, True),
        (Outcome.DEAD, Reason.UNKNOWN_CLICK, True),
        (Outcome.UNATTRIBUTED, Reason.UNKNOWN_CUSTOMER, True),
        (Outcome.DEAD, Reason.EXPIRED, False),
        (Outcome.DEAD, Reason.FAILED_ALONE, False),
        (Outcome.SUPERSEDED, Reason.NEWER_CART, False),
    ],
)
async def test_a_pause_is_over_when_the_destination_looked_at_an_event_though_it_refused_it(
    filled: Filled, outcome: Outcome, reason: Reason, *, over: bool
) -> None:
    await filled.note(1, pause(on=True))
    done = (Settled(1, outcome, reason),)
    await filled.note(2, Answer("voyado", NOON, done, (), "POST carts", "carts", 400))
    assert (await paused(filled.index) == ()) == over


@pytest.mark.parametrize(
    ("reason", "over"),
    [(Reason.SPLIT, True), (Reason.UNAUTHORIZED, False), (Reason.UNAVAILABLE, False)],
)
async def test_a_pause_is_not_over_while_it_is_turned_away(
    filled: Filled, reason: Reason, *, over: bool
) -> None:
    await filled.note(1, pause(on=True))
    again = (Postponed(1, reason, NOON),)
    await filled.note(2, Answer("voyado", NOON, (), again, "POST carts", "carts", 401))
    assert (await paused(filled.index) == ()) == over


async def test_what_waits_for_another_event_is_no_trouble_of_the_destination(
    filled: Filled,
) -> None:
    waits = Postponed(1, Reason.UNKNOWN_CUSTOMER, NOON, "Dub knows no such customer")
    await filled.note(1, Answer("voyado", NOON, (), (waits,), "track/sale", "sale", 200))
    [standing] = [e for e in await filled.index.standings(NOON) if e.destination == "voyado"]
    assert standing.trouble is None
    await filled.note(2, postponed(1))
    [standing] = [e for e in await filled.index.standings(NOON) if e.destination == "voyado"]
    assert standing.trouble is not None
