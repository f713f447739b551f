"""A record is a duplicate if an earlier one in its window has the same key (rule 2)."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from gateway.model.window import (
    CLOCKS_MS,
    PAGE_BYTES,
    WINDOW_KEY_BYTES,
    DedupSettings,
    Window,
)

records = st.lists(st.tuples(st.integers(0, 400), st.sampled_from("abcdef")), max_size=60)


@given(records, st.integers(1, 10), st.integers(1, 1000))
def test_a_duplicate_is_what_the_definition_says(
    steps: list[tuple[int, str]], most: int, window_ms: int
) -> None:
    window = Window(most, window_ms)
    log: list[tuple[int, int, str]] = []
    time_ms = 0
    for offset, (pause, key) in enumerate(steps):
        time_ms += pause
        expected = any(
            earlier == key and offset - at <= most and time_ms - at_ms <= window_ms
            for at, at_ms, earlier in log
        )
        assert window.see(offset, time_ms, key) is expected
        log.append((offset, time_ms, key))


@given(records, st.integers(1, 10), st.integers(1, 1000), st.integers(0, 60))
def test_a_window_rebuilt_from_its_start_judges_the_same(
    steps: list[tuple[int, str]], most: int, window_ms: int, crash: int
) -> None:
    log, time_ms = [], 0
    for offset, (pause, key) in enumerate(steps):
        time_ms += pause
        log.append((offset, time_ms, key))
    whole = Window(most, window_ms)
    judged = [whole.see(*each) for each in log]
    if crash >= len(log):
        return
    start = max(0, crash - most - 1)
    rebuilt = Window(most, window_ms)
    again = [rebuilt.see(*each) for each in log[start:]]
    assert again[crash - start :] == judged[crash:]
    last_ms = log[-1][1]
    assert [rebuilt.may_be_copy(ms) for ms in range(0, last_ms, 50)] == [
        whole.may_be_copy(ms) for ms in range(0, last_ms, 50)
    ]


def test_only_where_the_count_cut_it_short_an_older_event_may_be_a_copy() -> None:
    by_time = Window(100, 1000)
    for offset in range(10):
        by_time.see(offset, offset * 500, str(offset))
    assert not by_time.may_be_copy(0)
    by_count = Window(3, 1_000_000)
    for offset in range(10):
        by_count.see(offset, offset * 500, str(offset))
    assert by_count.may_be_copy(2500)
    assert not by_count.may_be_copy(3500)
    by_count.see(10, 2_000_000, "later than the window is long")
    assert not by_count.may_be_copy(2500)


def test_it_forgets_so_its_size_is_bounded() -> None:
    window = Window(1000, 10_000_000)
    for offset in range(20_000):
        window.see(offset, offset, str(offset))
    assert len(window) == 1001
    assert size_of(1000, 50_000) - size_of(1000, 10_000) < PAGE_BYTES


def test_a_key_takes_no_more_memory_than_is_said() -> None:
    assert size_of(100_000, 100_000) / 100_000 <= WINDOW_KEY_BYTES


def size_of(most: int, keys: int) -> int:
    """Return what a window takes that was shown so many keys."""
    tracemalloc.start()
    try:
        window = Window(most, 10_000_000)
        for offset in range(keys):
            window.see(offset, offset, str(offset))
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_partitions_share_the_count() -> None:
    assert DedupSettings(window_records=2_400_000).per_partition(12) == 200_000


def test_an_instant_is_covered_while_the_window_reaches_it_by_time_and_count() -> None:
    minute = CLOCKS_MS
    window = Window(3, 10 * minute)
    assert not window.covers(0)
    window.see(0, 20 * minute, "a")
    assert not window.covers(10 * minute)
    assert window.covers(11 * minute)
    for offset in range(1, 5):
        window.see(offset, 20 * minute + offset, "b")
    assert not window.covers(20 * minute)
    assert window.covers(21 * minute + 1)
