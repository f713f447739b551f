"""Envelopes as ingest makes them, and a clock that stands still."""

from typing import Any, Literal

from gateway.model.envelope import Derived, Envelope
from gateway.model.instant import format_ms

NOW_MS = 1_772_446_500_120  # 2026-03-02T10:15:00.120Z

EVENTS: dict[str, dict[str, Any]] = {
    "page": {"title": "Shoes"},
    "product": {"itemId": "SKU-1", "category": "Shoes > Running"},
    "cart": {"cartReference": "c-1", "items": [{"sku": "SKU-1", "quantity": 2}]},
    "lead": {"eventName": "Sign up"},
    "sale": {"amount": 4990, "currency": "SEK", "invoiceId": "o-77"},
    "customer": {"customerName": "Ann"},
    "custom": {"eventName": "Wishlist", "metadata": {"sku": "SKU-1"}},
    "mail_visit": {"trackerId": "t-1"},
    "mail_order": {"orderId": "m-1", "status": "printing"},
}
CONTEXT = {
    "contactId": "0f0e0d0c-0b0a-0908-0706-050403020100",
    "customerId": "u-1",
    "clickId": "abcdefghijklmnop",
    "language": "sv-SE",
}


class StoppedClock:
    """A clock whose time a test sets."""

    def __init__(self, ms: int = NOW_MS) -> None:
        self.ms = ms

    def now_ms(self) -> int:
        return self.ms


def envelope(
    event_type: str,
    context: dict[str, Any] | None = None,
    *,
    consent: Literal["full", "limited"] = "full",
    derived: Derived | None = None,
    **fields: Any,
) -> Envelope:
    """Return an event of a type; `context` replaces all of CONTEXT, `fields` add to the event."""
    event = {"type": event_type, "id": "e-1", "time": format_ms(NOW_MS), **EVENTS[event_type]}
    return Envelope(
        site="shop",
        dedup_key="key",
        received_ms=NOW_MS,
        corrected_ms=NOW_MS,
        consent=consent,
        event={**event, **fields},
        context=CONTEXT if context is None else context,
        derived=derived,
    )
