"""Nothing that somebody still needs may go, whatever the numbers."""

from itertools import accumulate, takewhile

from hypothesis import given
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

steps = st.lists(st.integers(0, 20), min_size=1, max_size=60)
"""Milliseconds from each record of a log to the next."""


@st.composite
def limits_at(draw: st.DrawFn, now_ms: int) -> Limits:
    return Limits(
        now_ms=now_ms + draw(st.integers(0, 100)),
        retention_ms=draw(st.integers(0, 300)),
        window_records=draw(st.integers(1, 70)),
        window_ms=draw(st.integers(1, 300)),
        short=draw(st.booleans()),
    )


def left_by(times: list[int], places: list[Place | None], limits: Limits) -> int:
    """Return the first offset that stays when all that may go went."""
    gone = takewhile(lambda each: event_may_go(*each, places, limits), enumerate(times))
    return len(list(gone))


def judged(times: list[int], first: int, place: int, limits: Limits) -> list[bool]:
    """Return what a destination at `place` finds to be duplicates, reading from `first`."""
    window = Window(limits.window_records, limits.window_ms)
    seen = [
        window.see(offset, times[offset], f"key {offset % 7}")
        for offset in range(first, len(times))
    ]
    return seen[place - first :]


@given(steps, st.data())
def test_a_destination_judges_alike_whatever_was_removed(
    steps: list[int], data: st.DataObject
) -> None:
    times = list(accumulate(steps))
    limits = data.draw(limits_at(times[-1]))
    offsets = data.draw(st.lists(st.integers(0, len(times) - 1), min_size=1, max_size=3))
    first = left_by(times, [Place(each, times[each]) for each in offsets], limits)
    for offset in offsets:
        assert first <= offset
        assert judged(times, first, offset, limits) == judged(times, 0, offset, limits)


@given(steps, st.data())
def test_a_destination_at_the_end_judges_what_comes_next_alike(
    steps: list[int], data: st.DataObject
) -> None:
    times = list(accumulate(steps))
    limits = data.draw(limits_at(times[-1]))
    first = left_by(times, [Place(len(times), limits.now_ms)], limits)
    coming = [limits.now_ms + each for each in accumulate(data.draw(steps_after))]
    whole = times + coming
    assert judged(whole, first, len(times), limits) == judged(whole, 0, len(times), limits)


steps_after = st.lists(st.integers(0, 20), min_size=1, max_size=20)


@given(steps, st.data())
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


@given(steps, st.data())
def test_what_may_go_is_a_stretch_at_the_beginning(steps: list[int], data: st.DataObject) -> None:
    times = list(accumulate(steps))
    limits = data.draw(limits_at(times[-1]))
    offset = data.draw(st.integers(0, len(times) - 1))
    places = [Place(offset, times[offset])]
    goes = [event_may_go(each, ms, places, limits) for each, ms in enumerate(times)]
    assert goes == sorted(goes, reverse=True)


@given(steps, st.data())
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
