import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.adapters.sqlite.segment import pack, records, unpack
from gateway.adapters.sqlite.tail import Tail
from gateway.ports import Record


@settings(deadline=None)
@given(st.lists(st.binary(max_size=40), min_size=1, max_size=50))
def test_a_segment_survives_a_round_trip(values: list[bytes]) -> None:
    assert unpack(len(values), pack(values)) == values


@settings(deadline=None)
@given(st.lists(st.binary(max_size=9), min_size=1, max_size=9), st.integers(1, 40))
def test_a_segment_that_was_cut_is_not_read(values: list[bytes], cut: int) -> None:
    with pytest.raises(ValueError, match="segment"):
        unpack(len(values), pack(values)[:-cut])


def test_the_records_of_a_segment_share_its_time() -> None:
    assert list(records(7, 99, [b"a", b"b"])) == [Record(0, 7, 99, b"a"), Record(0, 8, 99, b"b")]


@settings(deadline=None)
@given(st.lists(st.integers(1, 5), max_size=30), st.integers(0, 90), st.integers(1, 12))
def test_a_tail_gives_what_was_appended_or_nothing(
    counts: list[int], offset: int, limit: int
) -> None:
    tail = Tail(room_bytes=20)
    whole: list[Record] = []
    for number, count in enumerate(counts):
        values = [b"%d" % (len(whole) + each) for each in range(count)]
        tail.append(len(whole), number, values, count)
        whole += [Record(0, len(whole) + each, number, value) for each, value in enumerate(values)]
    found = tail.read(offset, limit)
    assert found in ([], whole[offset : offset + limit])
    assert found or offset < len(whole) - 15 or offset >= len(whole)


def test_a_tail_forgets_what_is_before_a_gap() -> None:
    tail = Tail(room_bytes=100)
    tail.append(0, 1, [b"a"], 1)
    tail.append(5, 1, [b"b"], 1)
    assert tail.read(0, 9) == []
    assert tail.read(5, 9) == [Record(0, 5, 1, b"b")]
