"""The newest state of a cart (rule 3)."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from gateway.model.carts import Carts, Update

updates = st.lists(
    st.builds(
        Update,
        st.just(0),
        st.sampled_from(["a", "b", None]),
        st.integers(0, 20_000),
        st.integers(0, 20_000),
        closes=st.booleans(),
    ),
    max_size=40,
)


def numbered(given_updates: list[Update]) -> list[Update]:
    return [
        Update(offset, each.sender, each.own_ms, each.corrected_ms, closes=each.closes)
        for offset, each in enumerate(given_updates)
    ]


@given(updates, st.sampled_from([1, 1000]))
def test_the_times_sent_rise_strictly_by_the_precision(plan: list[Update], step: int) -> None:
    carts = Carts(step)
    sent = [ms for each in numbered(plan) if (ms := carts.see("c", each)) is not None]
    assert all(later - earlier >= step for earlier, later in itertools.pairwise(sent))
    assert all(ms % step == 0 for ms in sent)


@given(updates)
def test_one_browsers_updates_are_ordered_by_its_own_clock(plan: list[Update]) -> None:
    carts = Carts(1000)
    newest = -1
    for each in numbered(plan):
        update = Update(each.offset, "a", each.own_ms, each.corrected_ms)
        is_newest = carts.see("c", update) is not None
        assert is_newest is (each.own_ms >= newest)
        newest = max(newest, each.own_ms)


@given(updates)
def test_a_close_is_always_the_newest_and_nothing_older_follows_it(plan: list[Update]) -> None:
    carts = Carts(1000)
    highest = 0
    for each in numbered(plan):
        update = Update(each.offset, None, each.own_ms, each.corrected_ms, closes=each.closes)
        is_newest = carts.see("c", update) is not None
        if each.closes:
            assert is_newest
        else:
            assert is_newest is (each.corrected_ms >= highest)
        highest = max(highest, each.corrected_ms) if is_newest else highest


def test_ties_go_to_the_later_in_the_log() -> None:
    carts = Carts(1000)
    assert carts.see("c", Update(0, "a", 5000, 5000)) == 5000
    assert carts.see("c", Update(1, "b", 1, 5000)) == 6000


def test_carts_outside_the_window_are_forgotten() -> None:
    carts = Carts(1000)
    carts.see("old", Update(0, None, 0, 0))
    carts.see("kept", Update(1, None, 0, 0))
    carts.see("kept", Update(5, None, 0, 0))
    carts.forget_below(3)
    assert (carts.knows("old"), carts.knows("kept")) == (False, True)
    assert carts.see("old", Update(6, None, 0, 0)) == 0


def test_forgotten_carts_give_back_their_room() -> None:
    carts = Carts(1000)
    for n in range(10_000):
        carts.see(f"c{n}", Update(n, None, 0, 0))
        carts.forget_below(n - 100)
    assert len(carts) < 2_000


def test_the_time_of_a_state_is_known_while_it_is_the_newest() -> None:
    carts = Carts(1000)
    carts.see("c", Update(0, None, 0, 5_000))
    carts.see("c", Update(1, None, 0, 4_000))
    assert (carts.sent_ms("c", 0), carts.sent_ms("c", 1)) == (5_000, None)
    carts.see("c", Update(2, None, 0, 5_100))
    assert (carts.sent_ms("c", 0), carts.sent_ms("c", 2)) == (None, 6_000)
