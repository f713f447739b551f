"""Ingest's own window is bounded by count and by time."""

from gateway.model.answered import Answered


def test_a_key_is_held_for_the_window_and_no_longer() -> None:
    answered = Answered(1000)
    answered.add(["a"], 5000)
    assert answered.holds("a", 6000)
    assert not answered.holds("a", 6001)
    assert not answered.holds("b", 5000)


def test_the_oldest_keys_make_room() -> None:
    answered = Answered(1000, most=4)
    answered.add(["a", "b", "c", "d"], 0)
    assert len(answered) == 4
    assert answered.holds("a", 0)
    answered.add(["e"], 0)
    assert not answered.holds("a", 0)
    assert all(answered.holds(key, 0) for key in ("c", "d", "e"))
    for key in range(100):
        answered.add([str(key)], 0)
        assert len(answered) <= 4
