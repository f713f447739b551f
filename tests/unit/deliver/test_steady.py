"""The steady clock: set wall clocks are approached, never jumped to."""

from gateway.deliver.steady import FOLLOWED_MS, SLEW, SteadyClock
from tests.sample import StoppedClock


class Rising:
    def __init__(self) -> None:
        self.seconds = 5.0

    def __call__(self) -> float:
        return self.seconds


def test_it_goes_with_a_wall_clock_that_goes_right() -> None:
    wall, rising = StoppedClock(1_000_000), Rising()
    steady = SteadyClock(wall, rising)
    for _ in range(10):
        rising.seconds += 0.5
        wall.ms += 500
        assert steady.now_ms() == wall.ms


def test_it_approaches_a_wall_clock_that_was_set_and_never_goes_back() -> None:
    for hour_ms in (3_600_000, -3_600_000):
        wall, rising = StoppedClock(10_000_000), Rising()
        steady = SteadyClock(wall, rising)
        wall.ms += hour_ms
        before = steady.now_ms()
        assert before == 10_000_000
        for _ in range(5 * 60):
            rising.seconds += 60
            wall.ms += 60_000
            now = steady.now_ms()
            assert abs(now - before - 60_000) <= 60_000 * SLEW + 1
            before = now
        assert abs(before - wall.ms) <= 1


def test_it_follows_at_once_where_the_machine_has_slept() -> None:
    wall, rising = StoppedClock(1_000_000), Rising()
    steady = SteadyClock(wall, rising)
    wall.ms += FOLLOWED_MS + 1
    assert steady.now_ms() == wall.ms
