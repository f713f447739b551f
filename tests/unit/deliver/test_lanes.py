"""What waits to be sent: batches never exceed their limits, lose, repeat or reorder."""

from weakref import ref

from hypothesis import given
from hypothesis import strategies as st

from gateway.deliver.lanes import Entry, Lanes
from gateway.model.attempt import Item
from tests.unit.deliver.world import view

LIMITS = {"a": 4, "b": 1}
plan = st.lists(
    st.tuples(
        st.sampled_from("ab"), st.sampled_from([None, "k1", "k2"]), st.sampled_from([0, 0, 1, 5])
    ),
    max_size=40,
)


def entry(offset: int, kind: str, key: str | None) -> Entry:
    return Entry(offset, 0, view(str(offset)), Item(kind, key, repeatable=True, body=None))


@given(plan, st.data())
def test_every_entry_is_taken_once_within_limits_and_in_order(
    steps: list[tuple[str, str | None, int]], data: st.DataObject
) -> None:
    lanes = Lanes(1.0)
    waiting = {n: entry(n, kind, key) for n, (kind, key, _) in enumerate(steps)}
    failures = {n: fails for n, (_, _, fails) in enumerate(steps)}
    for each in waiting.values():
        lanes.add(each, 0.0)
    done: list[Entry] = []
    busy: set[str] = set()
    now = 1.0
    while waiting:
        now += 1.0
        batch = lanes.take(now, LIMITS)
        assert len(batch) <= LIMITS[batch[0].item.kind] if batch else True
        keys = [each.item.key for each in batch if each.item.key]
        assert len(set(keys)) == len(keys), "two of one key in a request"
        assert not busy & set(keys), "two attempts of one key at a time"
        for each in batch:
            if failures[each.offset]:
                failures[each.offset] -= 1
                lanes.again(each, now + data.draw(st.sampled_from([0.0, 3.0])))
                continue
            lanes.remove(each)
            done.append(waiting.pop(each.offset))
    for key in ("k1", "k2"):
        offsets = [each.offset for each in done if each.item.key == key]
        assert offsets == sorted(offsets), "order within a key"
    assert lanes.seconds_until_due(now, LIMITS) is None


def test_a_lane_is_due_when_full_or_when_its_first_has_waited() -> None:
    lanes = Lanes(1.0)
    lanes.add(entry(0, "a", None), 10.0)
    assert lanes.take(10.5, LIMITS) == []
    assert lanes.seconds_until_due(10.5, LIMITS) == 0.5
    for n in range(1, 4):
        lanes.add(entry(n, "a", None), 10.5)
    assert [each.offset for each in lanes.take(10.5, LIMITS)] == [0, 1, 2, 3]


def test_what_yields_lets_others_of_its_key_pass() -> None:
    lanes = Lanes(0.0)
    sale, lead = entry(0, "b", "u1"), entry(1, "b", "u1")
    lanes.add(sale, 0.0)
    lanes.add(lead, 0.0)
    assert lanes.take(0.0, LIMITS) == [sale]
    lanes.again(sale, 5.0, yields=True)
    assert lanes.take(1.0, LIMITS) == [lead]
    assert lanes.take(6.0, LIMITS) == [], "one at a time"
    lanes.remove(lead)
    assert lanes.take(7.0, LIMITS) == [sale]


def test_what_yielded_goes_at_once_when_another_of_its_key_has_passed() -> None:
    lanes = Lanes(0.0)
    sales = [entry(0, "b", "u1"), entry(1, "b", "u1")]
    other, lead = entry(2, "b", "u2"), entry(3, "b", "u1")
    for each in (*sales, other):
        lanes.add(each, 0.0)
    for _ in range(3):
        (taken,) = lanes.take(0.0, LIMITS)
        lanes.again(taken, 1800.0, yields=True)
    assert lanes.seconds_until_due(1.0, LIMITS) == 1799.0
    lanes.add(lead, 1.0)
    assert lanes.take(1.0, LIMITS) == [lead]
    lanes.remove(lead)
    lanes.passed(lead, 2.0)
    assert lanes.take(2.0, LIMITS) == [sales[0]]
    assert lanes.take(2.0, LIMITS) == [], "one at a time"
    lanes.again(sales[0], 1800.0, yields=True)
    assert lanes.take(2.0, LIMITS) == [sales[1]]
    lanes.remove(sales[1])
    assert lanes.take(1799.0, LIMITS) == []
    assert lanes.take(1800.0, LIMITS) == [sales[0]]
    assert lanes.take(1800.0, LIMITS) == [other]
    assert lanes.take(1800.0, LIMITS) == [], "once, though it had two timers"
    lanes.remove(sales[0])
    lanes.remove(other)
    assert lanes.seconds_until_due(1800.0, LIMITS) is None


def test_an_entry_with_its_outcome_holds_nothing_of_the_lanes() -> None:
    lanes = Lanes(0.0)
    gone = entry(0, "b", "u1")
    lanes.add(gone, 0.0)
    lanes.take(0.0, LIMITS)
    lanes.again(gone, 9000.0, yields=True)
    lanes.remove(gone)
    lanes.passed(entry(1, "b", "u1"), 0.0)
    item = ref(gone.item)
    del gone
    assert item() is None, "neither kept nor counted until its timer would be due"
    assert lanes.seconds_until_due(0.0, LIMITS) is None


def test_an_entry_with_its_outcome_is_passed_over_wherever_it_waits() -> None:
    lanes = Lanes(0.0)
    entries = [entry(0, "a", None), entry(1, "a", "k1"), entry(2, "a", "k1"), entry(3, "a", None)]
    for each in entries:
        lanes.add(each, 0.0)
    lanes.remove(entries[1])
    lanes.remove(entries[3])
    assert {each.offset for each in lanes.take(0.0, LIMITS)} == {0, 2}


def test_after_a_refusal_fewer_share_a_request() -> None:
    lanes = Lanes(0.0)
    entries = [entry(n, "a", None) for n in range(4)]
    for each in entries:
        lanes.add(each, 0.0)
    for each in lanes.take(0.0, LIMITS):
        each.cap = 2
        lanes.again(each, 0.0)
    assert len(lanes.take(0.0, LIMITS)) == 2
    assert len(lanes.take(0.0, LIMITS)) == 2


def test_one_that_goes_while_it_waits_behind_another_of_its_key_changes_nothing_for_that() -> None:
    lanes = Lanes(0.0)
    first, second, third = (entry(offset, "a", "k1") for offset in range(3))
    for each in (first, second, third):
        lanes.add(each, 0.0)
    lanes.remove(second)
    assert lanes.take(1.0, LIMITS) == [first]
    assert lanes.take(1.0, LIMITS) == []
    lanes.remove(first)
    assert lanes.take(1.0, LIMITS) == [third]
