"""The account behind the PostGrid stand-in: what it holds, and the rules by which that changes.

A resource is the JSON that the API answers. Test and live keys see only what is their own.
"""

import re
import secrets
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Literal
from urllib.parse import quote

from gateway.model.instant import format_ms
from gateway.sandbox.postgrid_models import (
    OrderBody,
    ReturnEnvelopeOrder,
    TrackerBody,
    WebhookBody,
    WebhookChange,
)
from gateway.sandbox.record import forget_oldest, wall_clock_ms

Json = dict[str, Any]
DAY_MS = 86_400_000
STAGES = ("ready", "printing", "processed_for_delivery", "completed")
IMB_STATUSES = ("entered_mail_stream", "out_for_delivery", "returned_to_sender")
UNKNOWN_DEVICE = "Device Unknown"
UNKNOWN_ADDRESS = "Unknown IP Address"

_ID_CHARACTERS = string.digits + string.ascii_letters
_ID_LENGTH = 22
_TRACKED = re.compile(r"\{\{\s*(tracker_[A-Za-z0-9]+)(?:\.qrcode)?\s*\}\}")
_VARIABLE = re.compile(r"\{\{\s*([^{}\s]+)\s*\}\}")
_ITS_OWN = ("id", "object", "live", "status", "createdAt", "updatedAt")
"""Fields that no caller sets."""
_CANCELLABLE = (STAGES[0], "placed")
_TRACKED_SERVICES = ("express", "certified", "registered")


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgridSandbox:
    """How the stand-in is set up.

    ``retry_seconds`` are the waits before a webhook is tried again; the real ones are an hour, two
    and four. ``resign_retries``: whether a retry is signed anew, which is not known of the real
    one. ``visited_data``: what the event of a visit holds, which is not known either.
    ``newest_first``: the order of listings; neither is that. ``landing``: where the tracker of the
    example campaign leads, which is made at the start if this is set, and with it, if set too, a
    webhook to ``webhook_url`` for all that the gateway uses.
    """

    test_key: str = "test_sk_sandbox"
    live_key: str = "live_sk_sandbox"
    requests_per_second: int | None = None
    retry_seconds: tuple[float, ...] = (3_600, 7_200, 14_400)
    answer_seconds: float = 10
    resign_retries: bool = True
    visited_data: Literal["visit", "tracker"] = "visit"
    newest_first: bool = True
    landing: str = ""
    webhook_url: str = ""
    webhook_secret: str = ""
    now_ms: Callable[[], int] = wall_clock_ms


class Declined(Exception):  # noqa: N818 - the service's answer, not a mistake
    """The service says no: status, error type and message."""

    def __init__(self, status: int, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message


def not_found(what: str, thing_id: str) -> Declined:
    """Return the answer for what is not there, or not in this key's mode."""
    message = f"No {what.replace('_', ' ')} found with the ID {thing_id[:100]}."
    return Declined(HTTPStatus.NOT_FOUND, "not_found_error", message)


def _not_progressed(order: Json) -> Declined:
    why = "a live order" if order["live"] else f"an order that is {order['status']}"
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    return Declined(status, "invalid_progression_error", f"You cannot progress {why}.")


Told = Callable[[str, Json, Json | None], None]
"""Told of a type of event, the resource, and its updated fields."""


class Account:
    """What the stand-in holds; ``told`` hears of what webhooks may want to know."""

    def __init__(self, settings: PostgridSandbox) -> None:
        self.trackers: dict[str, Json] = {}
        self.visits: dict[str, Json] = {}
        self.orders: dict[str, Json] = {}
        self.webhooks: dict[str, Json] = {}
        self.events: dict[str, Json] = {}
        self.invocations: dict[str, Json] = {}
        self.links: dict[str, Json] = {}
        """The personalised links of mail pieces, by their code: ``/go/{code}``."""
        self.told: Told = lambda _type, _resource, _updated: None
        self._by_key: dict[tuple[bool, str, str], str] = {}
        self._uniques: dict[tuple[str, str, str], None] = {}
        self._cheques = 5_000
        self._settings = settings

    def now(self) -> str:
        """Tell the time as resources show it."""
        return format_ms(self._settings.now_ms())

    def add(self, held: dict[str, Json], kind: str, fields: Mapping[str, Any]) -> Json:
        """Make a resource and hold it."""
        now = self.now()
        made = {"id": new_id(kind), "object": kind, **fields, "createdAt": now, "updatedAt": now}
        held[made["id"]] = made
        forget_oldest(held)
        return made

    # Trackers and visits

    def create_tracker(self, body: TrackerBody, *, live: bool) -> Json:
        """Carry out the call."""
        counts = {"visitCount": 0, "uniqueVisitCount": 0}
        return self.add(self.trackers, "tracker", {"live": live, **body.sent(), **counts})

    def update_tracker(self, tracker: Json, body: TrackerBody) -> Json:
        """Carry out the call."""
        tracker.update(body.sent(), updatedAt=self.now())
        return tracker

    def delete_tracker(self, tracker: Json) -> Json:
        """Remove the tracker, and its visits and links with it (postgrid.md, 1)."""
        for held in (self.visits, self.links):
            for key in [key for key, each in held.items() if each["tracker"] == tracker["id"]]:
                del held[key]
        return self.delete(self.trackers, tracker)

    def delete(self, held: dict[str, Json], thing: Json) -> Json:
        """Remove a resource; return the answer."""
        del held[thing["id"]]
        return {"id": thing["id"], "object": thing["object"], "deleted": True}

    def add_link(self, tracker: Json, order: Json) -> Json:
        """Make the personalised link of a mail piece; there is one a piece and tracker."""
        for link in self.links.values():
            if (link["tracker"], link["order"]) == (tracker["id"], order["id"]):
                return link
        code = _random(10)
        link = self.links[code] = {
            "path": f"/go/{code}",
            "tracker": tracker["id"],
            "order": order["id"],
            "leadsTo": _filled(tracker["redirectURLTemplate"], order),
            "expiresMs": self._settings.now_ms() + tracker["urlExpireAfterDays"] * DAY_MS,
        }
        forget_oldest(self.links)
        return link

    def follow(self, code: str, device: str, address: str) -> str:
        """Make a visit; return where the link leads, by the tracker's template of today.

        Raises KeyError for a code that is not, and Declined for one that has expired.
        """
        link = self.links[code]
        tracker, order = self.trackers[link["tracker"]], self.orders[link["order"]]
        if self._settings.now_ms() >= link["expiresMs"]:
            raise Declined(HTTPStatus.GONE, "", "This link has expired.")
        self.visit(tracker, order, device, address)
        return _filled(tracker["redirectURLTemplate"], order)

    def visit(self, tracker: Json, order: Json, device: str, address: str) -> Json:
        """Make a visit, as if somebody had followed the link of the order."""
        fields = {
            "live": order["live"],
            "tracker": tracker["id"],
            "orderID": order["id"],
            "device": device,
            "ipAddress": address,
        }
        visit = self.add(self.visits, "tracker_visit", fields)
        # How the real one counts unique visits is not known: here an address once an order.
        unique = (tracker["id"], order["id"], address)
        tracker["visitCount"] += 1
        tracker["uniqueVisitCount"] += unique not in self._uniques
        self._uniques[unique] = None
        forget_oldest(self._uniques)  # type: ignore[arg-type]  # any dictionary will do
        tracker["updatedAt"] = self.now()
        data = visit if self._settings.visited_data == "visit" else tracker
        self.told("tracker.visited", data, None)
        return visit

    # Orders

    def create_order(
        self, kind: str, body: OrderBody, *, live: bool, idempotency_key: str = ""
    ) -> Json:
        """Carry out the call; twice with one idempotency key it gives the first order again."""
        known = self._by_key.get((live, kind, idempotency_key)) if idempotency_key else None
        if known is not None and known in self.orders:
            return self.orders[known]
        sent = {name: value for name, value in body.sent().items() if name not in _ITS_OWN}
        fields = {
            "live": live,
            "status": STAGES[0],
            **sent,
            "to": self._contact(sent["to"]),
            **({"from": self._contact(sent["from"])} if sent.get("from") else {}),
            **(self._cheque(sent) if kind == "cheque" else {"pageCount": 1}),
            "mailingClass": sent.get("mailingClass", "first_class"),
            "sendDate": sent.get("sendDate", self.now()),
        }
        order = self.add(self.orders, kind, fields)
        if idempotency_key:
            self._by_key[live, kind, idempotency_key] = order["id"]
            forget_oldest(self._by_key)  # type: ignore[arg-type]  # any dictionary will do
        self._link(order, sent)
        self.told(f"{kind}.created", order, None)
        return order

    def order_envelopes(self, envelope: str, body: ReturnEnvelopeOrder, *, live: bool) -> Json:
        """Carry out the call. Return envelopes themselves are not held: any id is one."""
        fields = {"live": live, "status": "placed", "returnEnvelope": envelope, **body.sent()}
        order = self.add(self.orders, "return_envelope_order", fields)
        self.told("return_envelope_order.created", order, None)
        return order

    def fill(self, order: Json) -> Json:
        """Fill a test order of a return envelope; raises Declined."""
        if order["live"] or order["status"] != "placed":
            raise _not_progressed(order)
        return self.change_order(order, {"status": "filled"})

    def _link(self, order: Json, sent: Json) -> None:
        """Make the links of the trackers that the piece's HTML names; templates are not held."""
        texts = (value for name, value in sent.items() if name.lower().endswith("html") and value)
        for tracker_id in {each for text in texts for each in _TRACKED.findall(text)}:
            tracker = self.trackers.get(tracker_id)
            if tracker is not None and tracker["live"] == order["live"]:
                self.add_link(tracker, order)

    def _contact(self, contact: str | Json) -> str | Json:
        """Show a contact as it was given: by its id, as the second document does, or whole."""
        if isinstance(contact, str):
            return contact
        return {
            "id": new_id("contact"),
            "object": "contact",
            **contact,
            "addressStatus": "verified",
        }

    def _cheque(self, sent: Json) -> Json:
        self._cheques += 1
        return {
            "number": sent.get("number", self._cheques),
            "bankAccount": {
                "id": sent["bankAccount"],
                "object": "bank_account",
                "accountNumberLast4": "3211",
                "bankCountryCode": "CA",
            },
        }

    def progress(self, order: Json) -> Json:
        """Move a test order on by one stage; raises Declined."""
        if order["live"] or order["status"] not in STAGES[:-1]:
            raise _not_progressed(order)
        return self.change_order(order, {"status": STAGES[STAGES.index(order["status"]) + 1]})

    def change_order(self, order: Json, fields: Json) -> Json:
        """Change what the printer and the postal service know of an order."""
        changed = {name: value for name, value in fields.items() if order.get(name) != value}
        if changed.get("imbStatus"):
            changed["imbDate"] = self.now()
        if changed.get("status") == "processed_for_delivery" and _is_tracked(order):
            changed["trackingNumber"] = "94" + "".join(
                secrets.choice("0123456789") for _ in "x" * 20
            )
        if changed:
            order.update(changed, updatedAt=self.now())
            self.told(f"{order['object']}.updated", order, changed)
        return order

    def cancel(self, order: Json, note: str | None = None) -> Json:
        """Cancel what is still ready; raises Declined."""
        if order["status"] not in _CANCELLABLE:
            # That it is a 422 follows from its description; the type's name is not known.
            raise Declined(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                "invalid_cancellation_error",
                f"You cannot cancel an order that is {order['status']}.",
            )
        said = {"note": note} if note else {}
        reason = {"reason": "user_initiated", "cancelledByUser": "user_sandbox", **said}
        return self.change_order(order, {"status": "cancelled", "cancellation": reason})

    # Webhooks

    def create_webhook(self, body: WebhookBody, *, live: bool) -> Json:
        """Carry out the call; a secret is made where none is given."""
        sent = body.sent()
        fields = {
            "live": live,
            "enabled": True,
            **sent,
            "enabledEvents": list(body.enabled_events),
            "payloadFormat": body.payload_format,
            "secret": sent.get("secret") or f"webhook_secret_{_random(_ID_LENGTH)}",
        }
        return self.add(self.webhooks, "webhook", fields)

    def update_webhook(self, webhook: Json, body: WebhookChange) -> Json:
        """Carry out the call."""
        sent = body.sent()
        if "enabledEvents" in sent:
            sent["enabledEvents"] = list(sent["enabledEvents"])
        webhook.update(sent, updatedAt=self.now())
        return webhook

    # The sandbox's own side

    def as_json(self, last: int | None) -> dict[str, Any]:
        """Show everything but secrets, of each sort the ``last`` so many if a number is given."""
        start = -last if last else None
        held = {
            "trackers": self.trackers,
            "visits": self.visits,
            "orders": self.orders,
            "links": self.links,
            "webhooks": self.webhooks,
            "events": self.events,
            "invocations": self.invocations,
        }
        return {
            "totals": {name: len(each) for name, each in held.items()},
            **{
                name: [_shown(row) for row in list(each.values())[start:]]
                for name, each in held.items()
            },
        }

    def reset(self) -> None:
        """Forget everything."""
        for held in (
            self.trackers,
            self.visits,
            self.orders,
            self.links,
            self.webhooks,
            self.events,
            self.invocations,
        ):
            held.clear()
        self._by_key.clear()
        self._uniques.clear()


def new_id(kind: str) -> str:
    """Make an id as PostGrid's are."""
    return f"{kind}_{_random(_ID_LENGTH)}"


def _random(length: int) -> str:
    return "".join(secrets.choice(_ID_CHARACTERS) for _ in range(length))


def _shown(row: Json) -> Json:
    return {name: value for name, value in row.items() if name not in {"secret", "data"}}


def _is_tracked(order: Json) -> bool:
    services = (order.get("extraService") or "", order.get("mailingClass") or "")
    return bool(order.get("express")) or any(
        word in service for service in services for word in _TRACKED_SERVICES
    )


def _filled(template: str, order: Json) -> str:
    """Put merge variables into a redirect template: the order's own, ``to.…`` and ``from.…``.

    What the real one does with special characters is not known: here they are percent-encoded. A
    variable that is not there, or of a contact known by its id only, is empty. Stricter than
    known: ``to.metadata.…`` is empty too, and so is the order's id.
    """
    values = {**(order.get("mergeVariables") or {})}
    for side in ("to", "from"):
        contact = order.get(side)
        if isinstance(contact, dict):
            values[side] = {**contact, "metadata": None}
    return _VARIABLE.sub(lambda found: quote(_text(values, found[1]), safe=""), template)


def _text(values: Any, path: str) -> str:
    for part in path.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return "" if values is None or isinstance(values, dict | list) else str(values)
