"""What makes two events one (the dedup key), and what keeps events together (the routing key).

Both are made from the request's body alone, never from cookies, and before consent drops any
field: copies of an event must be equal and meet in one partition. A site's name holds no colon,
so no two sites' keys are ever equal.
"""

from typing import Any

from gateway.model.dead import Subject


def dedup_key(site: str, event: dict[str, Any], own_us: int) -> str:
    """Return the key; `own_us` is the event's time in microseconds, by the sender's own clock."""
    kind = event["type"]
    if kind == "cart":
        return f"cart:{site}:{own_us}:{event['cartReference']}"
    if kind == "sale" and event.get("invoiceId"):
        return f"sale:{site}:{event['invoiceId']}"
    return f"event:{site}:{event['id']}"


def close_key(sale_key: str) -> str:
    """Return the dedup key of the emptied cart that a sale derives."""
    return f"close:{sale_key}"


def recent_key(site: str, view_id: str) -> str:
    """Return the dedup key of a view derived from an entry of `recent`."""
    return f"recent:{site}:{view_id}"


def replay_key(subject: Subject) -> str:
    """Return the dedup key of a replay: by letter and number, so that asking twice delivers once.

    A letter's partition is part of it unsaid: keys are compared within one.
    """
    return f"replay:{subject.destination}:{subject.origin}:{subject.number}"


def answer_key(key: str, event: dict[str, Any]) -> str:
    """Return the key by which ingest answers retries itself.

    A sale of one invoice with another amount or currency must reach the log, to be told apart
    there (`differs`).
    """
    if event["type"] == "sale" and event.get("invoiceId"):
        return f"{key}:{event['amount']}:{event['currency'].upper()}"
    return key


def routing_key(event: dict[str, Any], context: dict[str, Any]) -> str:
    """Return what chooses the partition. `context` is the body's, without cookies."""
    kind = event["type"]
    if kind == "cart":
        return str(event["cartReference"])
    if kind in {"mail_visit", "mail_order"}:
        return str(event["orderId"])
    if kind in {"lead", "sale", "customer"}:
        customer = _merged("customerId", event, context)
        if customer:
            return str(customer)
    found = _merged("sessionId", event, context) or _merged("visitorId", event, context)
    return str(found or event["id"])


def _merged(name: str, event: dict[str, Any], context: dict[str, Any]) -> Any:
    return event[name] if name in event else context.get(name)
