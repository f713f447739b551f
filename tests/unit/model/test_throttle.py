"""Where a destination says 429, less is asked of it in a second; then slowly more."""

import pytest

from gateway.model.throttle import WINDOW_SECONDS, Throttle

RATE = 40.0


def after_a_minute_of(taken: float) -> Throttle:
    """Return one that a destination has taken so many requests a second of for a minute."""
    throttle = Throttle()
    for number in range(round(taken * WINDOW_SECONDS)):
        throttle.taken(number / taken)
    return throttle


def test_a_destination_that_never_refuses_is_asked_at_the_whole_rate() -> None:
    throttle = after_a_minute_of(RATE)
    assert throttle.share(60.0) == 1.0


def test_after_a_refusal_a_little_less_is_asked_than_it_took_in_the_last_minute() -> None:
    throttle = after_a_minute_of(0.75 * RATE)
    throttle.refused(59.9, RATE, 59.9)
    assert throttle.share(59.9) == pytest.approx(0.75 * 0.95)


def test_one_refusal_halves_the_rate_at_most() -> None:
    throttle = after_a_minute_of(0.1 * RATE)
    throttle.refused(59.9, RATE, 59.9)
    assert throttle.share(59.9) == pytest.approx(0.5 * 0.95)


def test_what_was_taken_more_than_a_minute_ago_does_not_count() -> None:
    throttle = after_a_minute_of(RATE)
    throttle.refused(200.0, RATE, 200.0)
    assert throttle.share(200.0) == pytest.approx(0.5 * 0.95)


def test_refusals_of_requests_that_were_on_their_way_count_as_one() -> None:
    throttle = after_a_minute_of(RATE)
    for at in (59.0, 59.5, 62.9):
        throttle.refused(at, RATE, 63.0)
    assert throttle.share(59.0) == pytest.approx(0.95)
    throttle.refused(63.0, 0.95 * RATE, 63.0)
    assert throttle.share(63.0) < 0.95


def test_the_rate_rises_by_a_hundredth_a_minute_up_to_the_whole() -> None:
    throttle = after_a_minute_of(RATE)
    throttle.refused(60.0, RATE, 60.0)
    before = throttle.share(60.0)
    assert throttle.share(120.0) == pytest.approx(before * 1.01)
    assert throttle.share(120.0 + 3600) == 1.0


def test_however_often_it_is_refused_it_goes_on_asking() -> None:
    throttle = Throttle()
    for minute in range(60):
        throttle.refused(minute * 60.0, RATE, 0.0)
    assert throttle.share(3600.0) >= 0.05
