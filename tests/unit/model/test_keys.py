"""What makes two events one, and what keeps events together."""

from typing import Any

import pytest

from gateway.model.keys import answer_key, close_key, dedup_key, recent_key, routing_key
from gateway.model.routing import partition_of


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "id": "e-1", **fields}


def test_a_cart_is_one_by_its_reference_and_the_senders_own_instant() -> None:
    cart = event("cart", cartReference="c:1")
    assert dedup_key("shop", cart, 5) == dedup_key("shop", {**cart, "id": "e-2"}, 5)
    assert dedup_key("shop", cart, 5) != dedup_key("shop", cart, 6)


def test_a_sale_is_one_by_its_invoice_else_by_its_id() -> None:
    sale = event("sale", invoiceId="o-77", amount=1, currency="sek")
    other = {**sale, "id": "e-2", "amount": 2}
    assert dedup_key("shop", sale, 1) == dedup_key("shop", other, 2)
    without = event("sale", invoiceId=None, amount=1, currency="sek")
    assert dedup_key("shop", without, 1) != dedup_key("shop", {**without, "id": "e-2"}, 1)


@pytest.mark.parametrize("kind", ["page", "product", "lead", "customer", "custom"])
def test_the_rest_are_one_by_their_id(kind: str) -> None:
    assert dedup_key("shop", event(kind), 1) == dedup_key("shop", event("page"), 2)


def test_keys_of_different_sites_and_kinds_are_never_equal() -> None:
    found = [
        dedup_key("shop", event("page"), 1),
        dedup_key("shop2", event("page"), 1),
        dedup_key("shop", event("sale", invoiceId="e-1", amount=1, currency="sek"), 1),
        dedup_key("shop", event("cart", cartReference="e-1"), 1),
        close_key(dedup_key("shop", event("page"), 1)),
        recent_key("shop", "e-1"),
    ]
    assert len(set(found)) == len(found)


def test_a_sale_that_differs_is_not_answered_as_a_retry() -> None:
    sale = event("sale", invoiceId="o-77", amount=1, currency="sek")
    assert answer_key("k", sale) == answer_key("k", {**sale, "currency": "SEK"})
    assert answer_key("k", sale) != answer_key("k", {**sale, "amount": 2})
    assert answer_key("k", sale) != answer_key("k", {**sale, "currency": "eur"})
    assert answer_key("k", event("page")) == "k"


def test_one_cart_and_one_customer_stay_together() -> None:
    context = {"customerId": "u-1", "sessionId": "s", "visitorId": "v"}
    assert routing_key(event("cart", cartReference="c-1"), context) == "c-1"
    for kind in ("lead", "sale", "customer"):
        assert routing_key(event(kind), context) == "u-1"
        assert routing_key(event(kind, customerId="u-2"), context) == "u-2"
        assert routing_key(event(kind, customerId=None), context) == "s"


def test_the_rest_go_by_session_visitor_or_id() -> None:
    assert routing_key(event("page"), {"customerId": "u", "sessionId": "s"}) == "s"
    assert routing_key(event("page", sessionId=None), {"sessionId": "s", "visitorId": "v"}) == "v"
    assert routing_key(event("page"), {}) == "e-1"


def test_all_of_a_mail_piece_stays_together_whatever_its_metadata_tells() -> None:
    visit = event("mail_visit", orderId="letter_1", trackerId="t-1")
    copy = {**visit, "visitorId": "v-1", "customerId": "u-1", "sessionId": "s-1"}
    assert routing_key(visit, {}) == routing_key(copy, {}) == "letter_1"
    assert routing_key(event("mail_order", orderId="letter_1"), {}) == "letter_1"


def test_the_partition_is_the_keys_crc_32_in_every_version() -> None:
    assert partition_of("123456789", 1 << 32) == 0xCBF43926  # CRC-32's published check value
    assert partition_of("123456789", 12) == 0xCBF43926 % 12
