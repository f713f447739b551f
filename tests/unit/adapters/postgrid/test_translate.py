"""From PostGrid's objects to events: what goes on, and what never does."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from gateway.adapters.postgrid.translate import (
    Ids,
    UnusableError,
    order_seen,
    truncated,
    visit_seen,
    with_order,
)
from gateway.model.event import EVENT_BYTES, MailOrder, MailVisit
from gateway.model.instant import format_ms
from tests.mailhouse import order, visit

NOW_MS = 1_795_000_000_000
IDS: Ids = {
    "customerId": "metadata.customerId",
    "contactId": "metadata.person.contact",
    "mailReference": "metadata.mailReference",
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=600),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=8,
)


def seen(raw: dict[str, Any], kind: str | None = None) -> dict[str, Any]:
    return order_seen(raw, kind, IDS, NOW_MS).event


def test_an_order_becomes_an_event_with_its_state_and_the_ids_of_its_metadata() -> None:
    metadata = {"customerId": 17, "person": {"contact": "c-9"}, "campaign": "autumn"}
    raw = order(
        "letter_1",
        "processed_for_delivery",
        NOW_MS,
        imbStatus="entered_mail_stream",
        imbDate="2026-11-20",
        imbZIPCode="10001",
        trackingNumber="9400",
        extraService="certified",
        mailingClass="first_class",
        sendDate="2026-11-18",
        description="Autumn",
        metadata=metadata,
    )
    event = seen(raw)
    assert event.pop("id").startswith("letter_1:")
    assert event == {
        "type": "mail_order",
        "time": format_ms(NOW_MS),
        "orderId": "letter_1",
        "kind": "letter",
        "status": "processed_for_delivery",
        "imbStatus": "entered_mail_stream",
        "imbDate": "2026-11-20",
        "imbZipCode": "10001",
        "trackingNumber": "9400",
        "extraService": "certified",
        "mailingClass": "first_class",
        "sendDate": "2026-11-18",
        "description": "Autumn",
        "live": False,
        "metadata": metadata,
        "customerId": "17",
        "contactId": "c-9",
    }


def test_no_address_merge_variable_bank_account_or_document_goes_on() -> None:
    raw = order("cheque_1", "ready", NOW_MS)
    whole = orjson.dumps(
        [seen(raw), with_order(visit_seen(visit(1, "cheque_1", NOW_MS), 0), raw, IDS)]
    )
    for secret in (b"BAY", b"MAIN", b"Ann", b"3211", b"hunter2", b"pdf", b"203.0.113.9"):
        assert secret not in whole
    assert b'"mailReference":"mail-1"' in whole


def test_a_visit_becomes_an_event_with_what_its_order_tells() -> None:
    event = with_order(visit_seen(visit(7, "letter_1", NOW_MS), 0), order("letter_1", "", 0), IDS)
    assert event == {
        "type": "mail_visit",
        "id": "tracker_visit_7",
        "time": format_ms(NOW_MS),
        "trackerId": "tracker_1",
        "orderId": "letter_1",
        "device": "iPhone",
        "ipAddress": "203.0.113.0",
        "live": False,
        "metadata": {"customerId": "u-1", "mailReference": "mail-1", "campaign": "autumn"},
        "customerId": "u-1",
        "mailReference": "mail-1",
    }


def test_what_postgrid_does_not_know_is_left_out() -> None:
    raw = {**visit(7, "letter_1", NOW_MS), "device": "Device Unknown"}
    raw["ipAddress"] = "Unknown IP Address"
    event = visit_seen(raw, 0).event
    assert "device" not in event
    assert "ipAddress" not in event


@pytest.mark.parametrize(
    ("address", "kept"),
    [
        ("203.0.113.9", "203.0.113.0"),
        ("2001:db8:1:2:3::9", "2001:db8:1::"),
        ("::ffff:203.0.113.9", "203.0.113.0"),
        ("fe80::1%eth0", "fe80::"),
        ("Unknown IP Address", None),
        (None, None),
        (7, None),
    ],
)
def test_addresses_are_truncated(address: object, kept: str | None) -> None:
    assert truncated(address) == kept


def test_the_kind_is_the_messages_else_the_objects_else_read_off_the_id() -> None:
    raw = order("self_mailer_1", "ready", NOW_MS)
    assert seen(raw, "letter")["kind"] == "letter"
    assert seen({**raw, "object": "postcard"})["kind"] == "postcard"
    del raw["object"]
    assert seen(raw)["kind"] == "self_mailer"
    assert "kind" not in seen({**raw, "id": "order_1"})


def test_what_does_not_fit_is_left_out_and_named() -> None:
    raw = order("letter_1", "x" * 65, NOW_MS, metadata={"big": "x" * 10_001, "customerId": "u-1"})
    found = order_seen(raw, None, IDS, NOW_MS)
    assert found.left_out == ("status", "metadata")
    assert found.event["customerId"] == "u-1"


@pytest.mark.parametrize("raw", [{}, {"id": ""}, {"id": 7}, {"id": "x" * 101}])
def test_what_has_no_id_is_no_order_and_no_visit(raw: dict[str, Any]) -> None:
    with pytest.raises(UnusableError):
        order_seen(raw, None, IDS, NOW_MS)
    with pytest.raises(UnusableError):
        visit_seen(raw, NOW_MS)


def test_only_another_state_is_news_and_only_forwards() -> None:
    def state(status: str, at_ms: int, **more: Any) -> Any:
        return order_seen(order("letter_1", status, at_ms, **more), None, IDS, NOW_MS).state

    printing = state("printing", 2000)
    assert printing.is_news(None)
    assert not printing.is_news(printing)
    assert not state("printing", 3000, description="other").is_news(printing)
    assert not state("ready", 1000).is_news(printing)
    assert state("completed", 3000).is_news(printing)
    assert state("completed", 2000).is_news(printing)
    assert not state("ready", 2000).is_news(printing)
    assert state("entered_mail_stream", 3000).is_news(printing)
    scanned = state("completed", 3000, imbStatus="entered_mail_stream", imbDate="a")
    assert scanned.is_news(state("completed", 2500))
    moved = state("completed", 3500, imbStatus="entered_mail_stream", imbDate="b")
    assert moved.is_news(scanned)


ORDER_FIELDS = ("object", "status", "imbStatus", "imbZIPCode", "metadata", "createdAt", "updatedAt")


@given(st.text(min_size=1, max_size=120), st.dictionaries(st.sampled_from(ORDER_FIELDS), JSON))
def test_whatever_comes_makes_a_valid_event_or_none(order_id: str, fields: dict[str, Any]) -> None:
    raw = {"id": order_id, "description": "x", **fields}
    try:
        event = order_seen(raw, None, IDS, NOW_MS).event
        seen_visit = visit_seen({**raw, "tracker": order_id, "orderID": order_id}, NOW_MS)
    except UnusableError:
        return
    TypeAdapter(MailOrder).validate_python(event)
    TypeAdapter(MailVisit).validate_python(with_order(seen_visit, raw, IDS))
    assert len(orjson.dumps(event)) < EVENT_BYTES
