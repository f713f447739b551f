"""What the events log holds, and what webhook and file get of it."""

from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.attempt import Tried
from gateway.model.envelope import Derived, Envelope, Replay, UnreadableError, decode, encode

EVENT: dict[str, Any] = {
    "type": "product",
    "id": "e1",
    "time": "2026-11-21T10:15:00.120+01:00",
    "itemId": "S",
    "language": None,
}
ENVELOPE = Envelope(
    "shop",
    "id|e1",
    1_795_000_000_000,
    1_794_999_999_000,
    "full",
    EVENT,
    {"language": "sv-SE", "url": "https://shop.example/", "visitorId": "v1"},
)

plain = st.dictionaries(st.text(max_size=5), st.one_of(st.none(), st.text(max_size=9)), max_size=4)


@given(plain, plain, st.sampled_from([None, Derived("close", "s"), Derived("recent", "c")]))
def test_an_envelope_survives_the_log(
    event: dict[str, Any], context: dict[str, Any], derived: Derived | None
) -> None:
    envelope = replace(ENVELOPE, event={**event, **EVENT}, context=context, derived=derived)
    assert decode(encode(envelope)) == envelope


def test_the_events_own_value_wins_and_null_means_none() -> None:
    fields = ENVELOPE.fields()
    assert "language" not in fields
    assert fields["url"] == "https://shop.example/"


def test_a_carts_url_is_its_own_never_the_pages() -> None:
    cart = replace(ENVELOPE, event={**EVENT, "type": "cart"})
    assert "url" not in cart.fields()
    linked = replace(cart, event={**cart.event, "url": "https://shop.example/cart"})
    assert linked.fields()["url"] == "https://shop.example/cart"


def test_the_public_form_is_flat_and_tells_of_receipt_origin_and_marks() -> None:
    envelope = replace(ENVELOPE, derived=Derived("recent", "c1"), marks=("clock", "bot"))
    public = envelope.public()
    assert public["itemId"] == "S"
    assert public["site"] == "shop"
    assert public["receivedAt"] == "2026-11-18T11:06:40.000Z"
    assert public["correctedTime"] == "2026-11-18T11:06:39.000Z"
    assert public["derived"] == {"kind": "recent", "cause": "c1"}
    assert public["marks"] == ["clock", "bot"]
    unmarked = replace(envelope, marks=("bot",)).public()
    assert "correctedTime" not in unmarked


@pytest.mark.parametrize("context", [{"visitorId": "v"}, {"sessionId": "v"}])
def test_a_sender_is_the_visitor_or_else_the_session(context: dict[str, Any]) -> None:
    assert replace(ENVELOPE, context=context).sender == "v"


def test_with_limited_consent_the_sender_is_not_known() -> None:
    assert replace(ENVELOPE, context={}).sender is None


REPLAY = {"destination": "dub", "origin": 3, "number": 1, "asked_ms": 5, "tried": "failed"}


def test_a_replay_survives_the_log() -> None:
    again = replace(ENVELOPE, replay=Replay("dub", 3, 1, 5, Tried.FAILED))
    assert decode(encode(again)) == again


def broken(**over: Any) -> bytes:
    return orjson.dumps({**orjson.loads(encode(ENVELOPE)), **over})


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"rubbish",
        b"[]",
        b"null",
        broken(v=99),
        broken(event=None),
        broken(event={"type": "page"}),
        broken(event={**EVENT, "time": "yesterday"}),
        broken(event={**EVENT, "time": "2026-11-21T10:15:00"}),
        broken(derived=[1, 2, 3]),
        broken(context=None),
        broken(context=[]),
        broken(consent="none"),
        broken(site=None),
        broken(key=7),
        broken(key=""),
        broken(received="today"),
        broken(corrected=1 << 60),
        broken(corrected=-1),
        broken(corrected=True),
        broken(event=[]),
        broken(event={**EVENT, "id": None}),
        broken(event={**EVENT, "type": 7}),
        broken(event={**EVENT, "time": 7}),
        broken(event={**EVENT, "type": "cart"}),
        broken(event={**EVENT, "type": "cart", "cartReference": {}}),
        broken(replay={"destination": "dub"}),
        broken(replay={**REPLAY, "asked_ms": "now"}),
        broken(replay={**REPLAY, "tried": "perhaps"}),
        broken(replay=[1]),
    ],
)
def test_what_is_no_envelope_of_this_version_says_so(value: bytes) -> None:
    with pytest.raises(UnreadableError):
        decode(value)
