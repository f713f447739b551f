"""What a dialect of Dub's API is: the requests it makes of events, and what its answers say.

Everything here is pure. Where a rule rests on how Dub behaves, the fact is in its documentation or
its published server source.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, NamedTuple

from gateway.adapters.destinations.dub.settings import DubSettings
from gateway.model.answers import json_object, wrong_setting
from gateway.model.attempt import Again, Answered, Done, Item, Skip, Tried
from gateway.model.outcome import Outcome, Reason

LEAD, SALE, CUSTOMER = "lead", "sale", "customer"
"""The request kinds."""
_ABOUT_THE_EVENT = ("Click ", "Link ", "Lead ", "Customer ")
"""How the message of a 404 begins that speaks of an event; others speak of path or workspace."""
_ABOUT_THE_ACCOUNT = frozenset({"invite_pending", "invite_expired"})
"""Codes of 409 and 410: whoever made the key has yet to join the workspace."""
_DETAIL_CHARACTERS = 500

Fields = dict[str, Any]


class Call(NamedTuple):
    """How an item's request is made."""

    method: str
    path: str
    body: Any


@dataclass(frozen=True, slots=True)
class Awaits:
    """Dub recorded nothing of a sale, for it does not know the customer, or the lead."""

    detail: str
    soon: bool = False
    """The customer is known, so the lead is on its way."""


Said = Done | Again | Awaits


@dataclass(frozen=True, slots=True)
class Dialect:
    """One of Dub's APIs."""

    prepare: Mapping[str, Callable[[Fields, str, DubSettings], Item | Skip]]
    """By event type: the item of an event, under the key that its customer's events share."""
    endpoints: Mapping[str, str]
    """By request kind."""
    call: Callable[[Item], Call]
    taken: Callable[[Item, dict[str, Any]], Said | None]
    """What a success says; None where it can't be read."""
    known: Callable[[Item, Answered], Done | None]
    """Whether an error answer says that Dub has the item already."""
    forgets: str
    """When Dub no longer takes a lead for the repetition of one that it has noted."""


def refused(item: Item, answer: Answered, forgets: str) -> Said:
    """Return what an error answer says that is not the same everywhere; `forgets` as in Dialect."""
    said = json_object(answer.body)
    message = message_of(said)
    if answer.status == HTTPStatus.NOT_FOUND and message.startswith(_ABOUT_THE_EVENT):
        return _not_found(item, message, forgets)
    # No click and nobody known under that id: nobody to attribute the lead to.
    if answer.status == HTTPStatus.BAD_REQUEST and item.body.get("clickId") == "":
        return Done(Outcome.UNATTRIBUTED, Reason.UNKNOWN_CUSTOMER, message)
    if answer.status == HTTPStatus.GONE or _error(said).get("code") in _ABOUT_THE_ACCOUNT:
        return Again(Reason.UNAUTHORIZED, detail=message or f"HTTP {answer.status}")
    dead = Done(Outcome.DEAD, Reason.REFUSED, message or f"HTTP {answer.status}")
    return wrong_setting(answer) or dead


def _not_found(item: Item, message: str, forgets: str) -> Said:
    match item.kind:
        case "lead":
            # Dub notes a lead before it looks up the click, and takes a second try for its
            # repetition, which records nothing; so there is none.
            detail = f"{message} (Dub has noted the lead: replayed {forgets} it may count)"
            return Done(Outcome.DEAD, Reason.UNKNOWN_CLICK, detail)
        case "sale":
            return Awaits(message, soon=message.startswith("Lead "))
        case _:
            return Done(Outcome.UNATTRIBUTED, Reason.UNKNOWN_CUSTOMER, message)


def repeated(item: Item, until: str) -> Done:
    """Return the outcome of a lead that Dub takes for a repetition, `until` when it would not.

    Dub had noted it before, and recorded nothing now. Whether it had recorded anything then, only
    our own earlier requests can tell. (dub.md 2, trap)
    """
    match item.tried:
        case Tried.NEVER:
            detail = "Dub has noted such a lead already (it notes those that it refuses too)"
            return Done(Outcome.DUPLICATE, Reason.ALREADY_KNOWN, detail)
        case Tried.IN_DOUBT:
            detail = "an earlier request got no answer; Dub has this lead already"
            return Done(Outcome.DELIVERED, Reason.UNCONFIRMED, detail)
        case Tried.FAILED:
            detail = (
                "an earlier request failed, and Dub takes this one for its repetition; "
                f"replayed {until} it would count"
            )
            return Done(Outcome.DEAD, Reason.UNCONFIRMED, detail)


def sale_taken(said: dict[str, Any]) -> Said | None:
    """Read a sale's success: without a sale it was not attributed."""
    if "sale" not in said:
        return None
    if said["sale"] is None:
        return Awaits("Dub knows no such customer")
    return Done(Outcome.DELIVERED)


def message_of(said: dict[str, Any]) -> str:
    """Return the message of Dub's error envelope: `{"error": {"code", "message", "doc_url"}}`."""
    message = _error(said).get("message")
    return message[:_DETAIL_CHARACTERS] if isinstance(message, str) else ""


def _error(said: dict[str, Any]) -> dict[str, Any]:
    error = said.get("error")
    return error if isinstance(error, dict) else {}


def person(fields: Fields) -> Fields:
    """Return what is said of the customer, under the names that leads and sales have for it."""
    return {name: fields.get(name) for name in ("customerName", "customerEmail", "customerAvatar")}


def known(body: Fields) -> Fields:
    """Return what has a value."""
    return {name: value for name, value in body.items() if value is not None}
