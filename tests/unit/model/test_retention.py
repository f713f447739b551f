"""Nothing that somebody still needs may go, whatever the numbers."""

from itertools import accumulate, takewhile

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.model.retention import (
    Limits,
    Place,
    dead_letter_may_go,
    event_may_go,
    outcome_may_go,
)
from gateway.model.window import Window

DAY_MS = 86_400_000

stretches = st.lists(st.integers(0, 2), min_size=1, max_size=40)
"""Milliseconds from each record of a log to the next."""


@st.composite
def limits_at(draw: st.DrawFn, now_ms: int) -> Limits:
    return Limits(
        now_ms=now_ms + draw(st.integers(0, 20)),
        retention_ms=draw(st.integers(0, 20)),
        window_records=draw(st.integers(1, 8) | st.just(1000)),
        window_ms=draw(st.integers(1, 8) | st.just(1000)),
        short=draw(st.booleans()),
    )


def left_by(times: list[int], places: list[Place | None], limits: Limits) -> int:
    """Return the first offset that stays when all that may go went."""
    gone = takewhile(lambda each: event_may_go(*each, places, limits), enumerate(times))
    return len(list(gone))


def needed(removed: int, times: list[int], place: Place, limits: Limits) -> bool:
    """Whether a copy of a removed record, taken at the place, would be told by it."""
    window = Window(limits.window_records, limits.window_ms)
    for offset, time_ms in enumerate(times[: place.offset]):
        window.see(offset, time_ms, f"key {offset}")
    return window.see(place.offset, place.time_ms, f"key {removed}")


@settings(deadline=None, max_examples=400)
@given(stretches, st.data())
def test_no_destination_needs_what_was_removed(steps: list[int], data: st.DataObject) -> None:
    times = list(accumulate(steps))
    limits = data.draw(limits_at(times[-1]))
    offsets = data.draw(st.lists(st.integers(0, len(times) - 1), min_size=1, max_size=2))
    places = [Place(each, times[each]) for each in offsets]
    if data.draw(st.booleans()):
        places.append(Place(len(times), limits.now_ms))
    first = left_by(times, list(places), limits)
    assert first <= min(offsets)
    assert not any(needed(each, times, place, limits) for each in range(first) for place in places)


@settings(deadline=None)
@given(stretches, st.data())
def test_nothing_goes_that_is_younger_than_retention_while_there_is_room(
    steps: list[int], data: st.DataObject
) -> None:
    times = list(accumulate(steps))
    limits = data.draw(limits_at(times[-1]))
    first = left_by(times, [], limits)
    oldest_ms = limits.now_ms - limits.retention_ms
    if limits.short:
        assert first == len(times)
    else:
        assert all(each < oldest_ms for each in times[:first])
        assert all(each >= oldest_ms for each in times[first:])


@settings(deadline=None)
@given(stretches, st.data())
def test_what_may_go_is_a_stretch_at_the_beginning(steps: list[int], data: st.DataObject) -> None:
    times = list(accumulate(steps))
    limits = data.draw(limits_at(times[-1]))
    offset = data.draw(st.integers(0, len(times) - 1))
    places = [Place(offset, times[offset])]
    goes = [event_may_go(each, ms, places, limits) for each, ms in enumerate(times)]
    assert goes == sorted(goes, reverse=True)


@settings(deadline=None)
@given(stretches, st.data())
def test_a_destination_without_a_commit_keeps_everything(
    steps: list[int], data: st.DataObject
) -> None:
    times = list(accumulate(steps))
    limits = data.draw(limits_at(times[-1]))
    assert left_by(times, [Place(len(times), limits.now_ms), None], limits) == 0
    assert not outcome_may_go(0, 0, [None, 5], None, limits)


def _limits(*, short: bool = False) -> Limits:
    return Limits(now_ms=1000, retention_ms=100, window_records=1, window_ms=1, short=short)


def test_outcomes_stay_as_long_as_a_successor_needs_them() -> None:
    assert outcome_may_go(4, 10, [5, 9], None, _limits())
    assert not outcome_may_go(5, 10, [5, 9], None, _limits())


def test_outcomes_stay_as_long_as_the_events_they_are_about() -> None:
    assert outcome_may_go(4, 10, [], 11, _limits())
    assert not outcome_may_go(4, 10, [], 10, _limits())


def test_young_outcomes_go_only_when_room_is_short() -> None:
    assert not outcome_may_go(4, 900, [5], None, _limits())
    assert outcome_may_go(4, 900, [5], None, _limits(short=True))


def test_dead_letters_are_kept_for_thirty_days() -> None:
    assert not dead_letter_may_go(0, 30 * DAY_MS)
    assert dead_letter_may_go(0, 30 * DAY_MS + 1)
