"""From mailbox to sale: what happened before a sale that is linked to it by an id. Pure.

Ids never stand in for one another: an event is linked by the same field with the same value. From
the sale the links lead on: its customer to the lead, whose visitor to the page with the mail
reference, that to the visit, and its order to the mail piece.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from gateway.model.envelope import Envelope, UnreadableError, decode
from gateway.model.life import ID_CHARACTERS, Known, Place

LINKS = (
    "mailReference",
    "orderId",
    "clickId",
    "contactId",
    "customerId",
    "visitorId",
    "cartReference",
)
MOST_EVENTS = 100
MOST_LOOKUPS = 30
"""A reference that many share leads far; the chain ends there and says so."""


class Link(NamedTuple):
    """A field and its value."""

    name: str
    value: str


class Linked(NamedTuple):
    """An event behind a sale."""

    known: Known
    happened_ms: int
    by: tuple[str, ...]
    """The fields that it shares with what was found before it."""


class Chain:
    """Follows the links of one sale: `todo`, look those up, `take` what is found, and so on."""

    def __init__(self, sale: Known, envelope: Envelope) -> None:
        self.cut = False
        """Whether there may be more than was followed."""
        self._site = envelope.site
        self._until_ms = envelope.corrected_ms
        self._found: dict[Place, Linked] = {}
        self._sale = sale
        self._lookups = 0
        self._links: dict[Link, None] = {}
        self._todo = list(_links(envelope.fields()))
        self._links.update(dict.fromkeys(self._todo))

    def todo(self) -> list[Link]:
        """Return the links to look up next; none at the end."""
        todo, self._todo = self._todo, []
        room = min(MOST_LOOKUPS - self._lookups, len(todo)) if not self._is_full() else 0
        self.cut = self.cut or room < len(todo)
        self._lookups += room
        return todo[:room]

    def take(self, events: Iterable[Known]) -> None:
        """Take in what a link led to: other people's, other sites' and later events stay out."""
        for known in events:
            envelope = _read(known)
            if envelope is None or known.place in self._found:
                continue
            if self._is_own(known, envelope) or envelope.corrected_ms > self._until_ms:
                continue
            links = _links(envelope.fields())
            by = tuple(dict.fromkeys(link.name for link in links if link in self._links))
            if not by:
                continue
            if self._is_full():
                self.cut = True
                return
            self._found[known.place] = Linked(known, envelope.corrected_ms, by)
            self._add(links)

    def _is_own(self, known: Known, envelope: Envelope) -> bool:
        """Whether it is the sale, made from it, or none of its site's."""
        derived = envelope.derived is not None and envelope.derived.cause == self._sale.id
        return known.id == self._sale.id or derived or envelope.site != self._site

    def _add(self, links: Iterable[Link]) -> None:
        fresh = [link for link in links if link not in self._links]
        self._links.update(dict.fromkeys(fresh))
        self._todo += fresh

    def _is_full(self) -> bool:
        return len(self._found) >= MOST_EVENTS

    def story(self) -> tuple[Linked, ...]:
        """Return what was found, in the order in which it happened; copies once."""
        first = (each for each in self._found.values() if each.known.copy_of is None)
        return tuple(sorted(first, key=lambda each: (each.happened_ms, each.known.place)))

    def ids(self) -> dict[str, tuple[str, ...]]:
        """Return the values that link the story, by their fields."""
        return {
            name: values
            for name in LINKS
            if (values := tuple(link.value for link in self._links if link.name == name))
        }


def chain_of(events: Iterable[Known]) -> Chain | None:
    """Begin at the latest sale among events, if there is one."""
    for known in events:
        envelope = _read(known) if known.type == "sale" else None
        if envelope is not None:
            return Chain(known, envelope)
    return None


def _links(fields: Mapping[str, Any]) -> list[Link]:
    values = ((name, fields.get(name)) for name in LINKS)
    return [
        Link(name, value)
        for name, value in values
        if isinstance(value, str) and 0 < len(value) <= ID_CHARACTERS
    ]


def _read(known: Known) -> Envelope | None:
    try:
        return decode(known.record)
    except (UnreadableError, ValueError, TypeError, AttributeError):
        return None
