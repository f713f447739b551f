"""PostGrid in a few lines: webhooks as it signs them, and an account behind the `HttpClient`.

The account can list in any order, grow while it is read, and fail when it is told to.
"""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson

from gateway.model.attempt import Answered, Unanswered
from gateway.model.instant import format_ms
from gateway.model.outcome import Reason


def _base64(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")


def token(
    kind: str, data: object, secret: str, now_ms: int, *, algorithm: str | None = "HS256"
) -> bytes:
    """Return a webhook's body in the format `jwt`."""
    head = orjson.dumps({"alg": algorithm, "typ": "JWT"})
    claims = orjson.dumps({"type": kind, "data": data, "iat": now_ms // 1000})
    signed = _base64(head) + b"." + _base64(claims)
    return signed + b"." + _base64(hmac.digest(secret.encode(), signed, "sha256"))


def json_hook(kind: str, data: object, secret: str, time: int) -> tuple[bytes, str]:
    """Return a webhook's body in the format `json`, and the header that signs it."""
    body = orjson.dumps({"type": kind, "data": data})
    mac = hmac.digest(secret.encode(), f"{time}.".encode() + body, "sha256").hex()
    return body, f"t={time},v1={mac}"


def order(order_id: str, status: str, at_ms: int, **more: Any) -> dict[str, Any]:
    """Return an order as PostGrid has it, with what must never go further."""
    return {
        "id": order_id,
        "object": order_id.rpartition("_")[0],
        "live": False,
        "status": status,
        "to": {"id": "contact_1", "addressLine1": "20-20 BAY ST", "firstName": "Ann"},
        "from": {"id": "contact_2", "addressLine1": "1 MAIN ST"},
        "bankAccount": {"accountNumberLast4": "3211"},
        "mergeVariables": {"secretCode": "hunter2"},
        "url": "https://pdf.postgrid.example/private.pdf",
        "metadata": {"customerId": "u-1", "mailReference": "mail-1", "campaign": "autumn"},
        "createdAt": format_ms(at_ms),
        "updatedAt": format_ms(at_ms),
        **more,
    }


def visit(number: int, order_id: str, at_ms: int, tracker: str = "tracker_1") -> dict[str, Any]:
    """Return a tracker visit as PostGrid has it."""
    return {
        "id": f"tracker_visit_{number}",
        "object": "tracker_visit",
        "live": False,
        "tracker": tracker,
        "orderID": order_id,
        "device": "iPhone",
        "ipAddress": "203.0.113.9",
        "createdAt": format_ms(at_ms),
        "updatedAt": format_ms(at_ms),
    }


class MailHouse:
    """An account behind the `HttpClient` port."""

    def __init__(self) -> None:
        self.orders: dict[str, dict[str, Any]] = {}
        self.visits: dict[str, list[dict[str, Any]]] = {"tracker_1": []}
        """By tracker, the oldest first."""
        self.events: list[dict[str, Any]] = []
        self.newest_first = True
        self.asked: list[str] = []
        self.down: Callable[[str], bool] = lambda _path: False
        """Which paths get no answer just now."""
        self.before: Callable[[str], None] = lambda _path: None
        """Called before each answer: the account may change while it is read."""

    async def exchange(
        self, method: str, url: str, headers: dict[str, str], body: bytes, timeout_seconds: float
    ) -> Answered | Unanswered:
        del method, headers, body, timeout_seconds
        parts = urlsplit(url)
        path = parts.path.removeprefix("/print-mail/v1/")
        self.asked.append(path)
        self.before(path)
        if self.down(path):
            return Unanswered(Reason.NO_ANSWER, "told to be away")
        found = self._found(path, {name: each[0] for name, each in parse_qs(parts.query).items()})
        if found is None:
            error = {"type": "not_found_error", "message": "nothing there"}
            return Answered(404, None, orjson.dumps({"object": "error", "error": error}))
        return Answered(200, None, orjson.dumps(found))

    def _found(self, path: str, query: dict[str, str]) -> dict[str, Any] | None:
        match path.split("/"):
            case ["trackers", tracker]:
                return self._tracker(tracker) if tracker in self.visits else None
            case ["trackers", tracker, "visits"]:
                return self._page(self.visits[tracker], query)
            case [listing]:
                return self._page(self._listed(listing), query)
            case [_, order_id]:
                return self.orders.get(order_id)
            case _:
                return None

    def _listed(self, listing: str) -> list[dict[str, Any]]:
        if listing == "trackers":
            return [self._tracker(each) for each in self.visits]
        if listing == "events":
            return self.events
        prefix = {"letters": "letter_", "postcards": "postcard_"}.get(listing, "none_")
        return [each for name, each in self.orders.items() if name.startswith(prefix)]

    def _tracker(self, tracker: str) -> dict[str, Any]:
        count = len(self.visits[tracker])
        return {"id": tracker, "object": "tracker", "visitCount": count, "uniqueVisitCount": count}

    def _page(self, rows: list[dict[str, Any]], query: dict[str, str]) -> dict[str, Any]:
        limit, skip = int(query.get("limit", 10)), int(query.get("skip", 0))
        assert limit <= 100
        listed = rows[::-1] if self.newest_first else rows
        return {
            "object": "list",
            "limit": limit,
            "skip": skip,
            "totalCount": len(rows),
            "data": listed[skip : skip + limit],
        }
