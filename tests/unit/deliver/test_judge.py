"""Whatever a record of the log holds, judging it raises nothing: it would stop all behind it."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.deliver.judge import Judge, window_of
from gateway.model.attempt import Done, Item
from gateway.model.envelope import Envelope, Replay, encode
from gateway.model.instant import format_ms
from gateway.model.outcome import Outcome, Reason
from gateway.model.window import DedupSettings, Window
from gateway.ports import Record
from tests.unit.deliver.world import NAME, SITE, There, cart, lead, settings, view
from tests.virtual import START_MS

RECORDS = [cart("c1", 0), cart("c1", 5, close=True), view("v1"), lead("l1", "u1")]
REPLAY = {"destination": NAME, "origin": 0, "number": 1, "asked_ms": START_MS, "tried": "never"}
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.text(max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)
GONE = object()
TOP = ("v", "site", "key", "received", "corrected", "consent", "event", "context", "derived")
BELOW = ("type", "id", "time", "cartReference", "visitorId", "contactId", "destination")
NAMES = (*TOP, *BELOW, "marks", "replay", "origin", "number", "asked_ms", "tried")


def judge() -> Judge:
    window = window_of(DedupSettings(), 1)
    return Judge(NAME, There(), settings(), {SITE: frozenset({NAME})}, window)


@pytest.mark.logs_errors
@given(
    st.sampled_from(RECORDS),
    st.booleans(),
    st.lists(
        st.tuples(
            st.sampled_from(["", "event", "context", "replay"]),
            st.sampled_from(NAMES),
            st.one_of(st.just(GONE), values),
        ),
        max_size=3,
    ),
)
def test_a_record_that_lacks_a_part_or_has_a_wrong_one_stops_nothing(
    envelope: Any,
    replayed: bool,  # noqa: FBT001 - drawn
    changes: list[tuple[str, str, Any]],
) -> None:
    record = orjson.loads(encode(envelope))
    if replayed:
        record["replay"] = dict(REPLAY)
    for part, name, value in changes:
        target = record.get(part) if part else record
        if not isinstance(target, dict):
            continue
        target.pop(name, None)
        if value is not GONE:
            target[name] = value
    judging = judge()
    for offset in range(2):
        judging.see(Record(0, offset, START_MS, orjson.dumps(record)))


@pytest.mark.parametrize(
    "over", [{"context": None}, {"event": {**cart("c1", 0).event, "cartReference": None}}]
)
def test_an_incomplete_record_is_buried_as_unreadable(over: dict[str, Any]) -> None:
    value = orjson.dumps({**orjson.loads(encode(cart("c1", 0))), **over})
    judged = judge().see(Record(0, 0, START_MS, value))
    assert judged is not None
    assert isinstance(judged.verdict, Done)
    assert (judged.verdict.outcome, judged.verdict.reason) == (Outcome.DEAD, Reason.UNREADABLE)


def sold(n: int, amount: int) -> Envelope:
    event = {"type": "sale", "id": f"s{n}{amount}", "amount": amount, "invoiceId": f"o{n}"}
    event |= {"time": format_ms(START_MS), "customerId": "u1", "currency": "sek"}
    return Envelope(SITE, f"sale:{SITE}:o{n}", START_MS, START_MS, "full", event)


def again(n: int, at_ms: int) -> Envelope:
    replay = Replay(NAME, n, 1, START_MS)
    return replace(cart(f"c{n % 3}", at_ms), dedup_key=f"replay:{n}", replay=replay)


written = st.one_of(
    st.builds(lambda n, at: encode(cart(f"c{n}", at)), st.integers(0, 2), st.integers(0, 5)),
    st.builds(
        lambda n, at: encode(cart(f"c{n}", at, close=True)), st.integers(0, 2), st.integers(0, 5)
    ),
    st.builds(lambda n, amount: encode(sold(n, amount)), st.integers(0, 2), st.integers(1, 2)),
    st.builds(lambda n, at: encode(again(n, at)), st.integers(0, 9), st.integers(0, 5)),
    st.builds(lambda n: encode(view(f"v{n}")), st.integers(0, 3)),
    st.just(b"rubbish"),
)


@given(st.lists(written, max_size=20), st.lists(written, max_size=20), st.integers(1, 40))
def test_what_was_only_followed_counts_as_much_as_what_was_judged(
    done: list[bytes], coming: list[bytes], most: int
) -> None:
    log = enumerate(done + coming)
    records = [Record(0, offset, START_MS + offset, value) for offset, value in log]
    judging, following = (
        Judge(NAME, There(), settings(), {SITE: frozenset({NAME})}, Window(most, 1_000_000))
        for _ in range(2)
    )
    for record in records[: len(done)]:
        judging.see(record)
        following.follow(record)
    for record in records[len(done) :]:
        assert following.see(record) == judging.see(record)


def sale(invoice: str, amount: int) -> bytes:
    made = lead(f"s-{invoice}", "u1")
    event = {**made.event, "type": "sale", "invoiceId": invoice, "amount": amount}
    return encode(replace(made, event=event, dedup_key=f"invoice|{invoice}"))


def test_what_sales_said_is_remembered_as_far_back_as_the_window_reaches_and_no_further() -> None:
    window = window_of(DedupSettings(window_records=10), 1)
    judging = Judge(NAME, There(), settings(), {SITE: frozenset({NAME})}, window)

    def verdict(offset: int, invoice: str, amount: int) -> object:
        judged = judging.see(Record(0, offset, START_MS, sale(invoice, amount)))
        assert judged is not None
        return judged.verdict

    for offset in range(100):
        assert isinstance(verdict(offset, f"o-{offset}", 100), Item)
    assert verdict(100, "o-95", 200) == Done(Outcome.DUPLICATE, Reason.DIFFERS)
    assert verdict(101, "o-96", 100) == Done(Outcome.DUPLICATE, Reason.REPEATED)
    assert isinstance(verdict(102, "o-1", 300), Item), "the window no longer reaches it"
    assert len(judging._terms) <= len(window)
