"""Judges records in the log's order: whose they are, whether they are duplicates, what to send.

The judgement depends on the log alone (but for age), so a successor computes the same.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.deliver.settings import DestinationSettings
from gateway.model.attempt import Done, Item, Skip
from gateway.model.carts import Carts, Update
from gateway.model.envelope import Envelope, Replay, UnreadableError, envelope_of, read
from gateway.model.outcome import Outcome, Reason
from gateway.model.window import DedupSettings, Window
from gateway.ports import Destination, Record

LOG = logging.getLogger("gateway.deliver")

_REMEMBERED = frozenset({"cart", "sale"})
"""Types of which more than the key counts for what comes after."""

Routes = Mapping[str, frozenset[str]]
"""The destinations of each site."""


@dataclass(slots=True, frozen=True)
class Judged:
    """A record that concerns the destination: its outcome at once, or what is to be sent."""

    envelope: Envelope | None
    """None where the record can't be read."""
    verdict: Done | Item
    newest_of: str | None = None
    """The cart of which this is the newest state; earlier ones that wait are superseded."""


class Judge:
    """For one destination and one partition; show it every record of the window, in order."""

    def __init__(
        self,
        name: str,
        destination: Destination,
        settings: DestinationSettings,
        routes: Routes,
        window: Window,
    ) -> None:
        self.window = window
        self.carts = Carts(destination.cart_step_ms)
        self._name = name
        self._destination = destination
        self._settings = settings
        self._sites = frozenset(site for site, names in routes.items() if name in names)
        self._terms: dict[str, tuple[object, object]] = {}

    def see(self, record: Record) -> Judged | None:
        """Take in the next record; None when it does not concern the destination."""
        try:
            parts = read(record.value)
        except UnreadableError as error:
            self.window.pass_over(record.offset, record.time_ms)
            return Judged(None, Done(Outcome.DEAD, Reason.UNREADABLE, str(error)))
        repeated = self.window.see(record.offset, record.time_ms, parts["key"])
        if not self._takes(parts):
            return None
        envelope = envelope_of(parts)
        if repeated:
            return Judged(envelope, Done(Outcome.DUPLICATE, self._why_repeated(envelope)))
        if envelope.replay is not None:
            return self._again(envelope, envelope.replay)
        self._remember_terms(envelope)
        if envelope.type == "cart":
            return self._cart(record, envelope)
        return self._ready(envelope, envelope.corrected_ms)

    def follow(self, record: Record) -> None:
        """Take in the next record, which has its outcome: those after it are judged by it."""
        try:
            parts = read(record.value)
        except UnreadableError:
            self.window.pass_over(record.offset, record.time_ms)
            return
        repeated = self.window.see(record.offset, record.time_ms, parts["key"])
        if repeated or parts["event"]["type"] not in _REMEMBERED:
            return
        if self._takes(parts) and parts.get("replay") is None:
            envelope = envelope_of(parts)
            self._remember_terms(envelope)
            if envelope.type == "cart":
                self._place(record, envelope)

    def _takes(self, parts: dict[str, Any]) -> bool:
        if parts["site"] not in self._sites or parts["event"]["type"] not in self._settings.events:
            return False
        derived, replay = parts.get("derived"), parts.get("replay")
        if replay is not None:
            return bool(replay.destination == self._name)
        recent = derived is not None and derived.kind == "recent"
        return self._destination.needs_contact or not recent

    def _cart(self, record: Record, envelope: Envelope) -> Judged:
        time_ms = self._place(record, envelope)
        if isinstance(time_ms, Done):
            return Judged(envelope, time_ms)
        judged = self._ready(envelope, time_ms)
        return Judged(envelope, judged.verdict, _cart_key(envelope))

    def _place(self, record: Record, envelope: Envelope) -> int | Done:
        """Put a cart in its place among its updates; the time to send, or why it is not sent."""
        self.carts.forget_below(self.window.first_offset())
        key = _cart_key(envelope)
        closes = envelope.derived is not None
        if not closes and self._out_of_reach(envelope) and not self.carts.knows(key):
            # What became of this cart since is no longer known; to send it might take it back.
            # Nor is it taken for known: the next such state would be measured by this one.
            return _superseded("older than the window reaches")
        time_ms = self.carts.see(key, _update(record, envelope, closes=closes))
        if time_ms is None:
            return _superseded("an older state than the one before it in the log")
        return time_ms

    def _again(self, envelope: Envelope, replay: Replay) -> Judged:
        """Judge a replay: it stands at its original's place (rule 3)."""
        key, time_ms = None, envelope.corrected_ms
        if envelope.type == "cart":
            self.carts.forget_below(self.window.first_offset())
            key = _cart_key(envelope)
            if replay.origin < self.window.first_offset():
                return Judged(envelope, _superseded("the window no longer reaches its original"))
            sent_ms = self.carts.sent_ms(key, replay.origin)
            if sent_ms is None:
                return Judged(envelope, _superseded("the cart has moved on since"))
            time_ms = sent_ms
        judged = self._ready(envelope, time_ms)
        if isinstance(judged.verdict, Item) and judged.verdict.repeatable:
            judged.verdict.tried = replay.tried
        return Judged(envelope, judged.verdict, key)

    def _ready(self, envelope: Envelope, time_ms: int) -> Judged:
        if self._settings.needs_consent and envelope.consent != "full":
            return Judged(envelope, Done(Outcome.SKIPPED, Reason.NO_CONSENT))
        try:
            item = self._destination.prepare(envelope, time_ms)
        except Exception as error:
            # One event that a destination's code can't stand must not stop those behind it.
            LOG.exception("%s: event %s can't be prepared", self._name, envelope.id)
            fault = f"internal error: {type(error).__name__}"
            return Judged(envelope, Done(Outcome.DEAD, Reason.REFUSED, fault))
        if isinstance(item, Skip):
            return Judged(envelope, Done(Outcome.SKIPPED, item.reason))
        bury = not item.repeatable and self._settings.on_unknown == "bury"
        if bury and self._out_of_reach(envelope):
            detail = "older than the window reaches, so perhaps a copy of one delivered before"
            return Judged(envelope, Done(Outcome.DEAD, Reason.UNKNOWN, detail))
        return Judged(envelope, item)

    def _out_of_reach(self, envelope: Envelope) -> bool:
        """Whether a copy of it may be in the log, but no longer in the window."""
        if envelope.replay is not None:
            return not self.window.covers(envelope.replay.asked_ms)
        return self.window.may_be_copy(envelope.corrected_ms)

    def _remember_terms(self, envelope: Envelope) -> None:
        if envelope.type == "sale" and envelope.event.get("invoiceId"):
            self._terms[envelope.dedup_key] = _terms(envelope)
            if len(self._terms) > len(self.window):
                self._terms.pop(next(iter(self._terms)))

    def _why_repeated(self, envelope: Envelope) -> Reason:
        first = self._terms.get(envelope.dedup_key)
        same = first is None or first == _terms(envelope)
        return Reason.REPEATED if same else Reason.DIFFERS


def _cart_key(envelope: Envelope) -> str:
    return envelope.site + "\x1f" + str(envelope.event["cartReference"])


def _terms(envelope: Envelope) -> tuple[object, object]:
    currency = envelope.fields().get("currency")
    return envelope.event.get("amount"), str(currency).lower()


def _update(record: Record, envelope: Envelope, *, closes: bool) -> Update:
    return Update(
        record.offset, envelope.sender, envelope.own_ms, envelope.corrected_ms, closes=closes
    )


def _superseded(detail: str) -> Done:
    return Done(Outcome.SUPERSEDED, Reason.NEWER_CART, detail)


def window_of(dedup: DedupSettings, partitions: int) -> Window:
    """Return an empty window of one partition."""
    return Window(dedup.per_partition(partitions), round(dedup.window_seconds * 1000))
