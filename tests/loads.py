"""A load of 20,000 mixed events with copies, and the account of what became of each.

What was answered 2xx, what the destinations hold, what the logs say.
"""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from aiohttp import ClientError, ClientSession, ClientTimeout

from gateway.model.carts import Carts, Update
from gateway.model.dead import DeadLetter, Decision, Deed, Subject
from gateway.model.dead import decode as decode_dead
from gateway.model.envelope import Envelope, decode
from gateway.model.instant import format_ms
from gateway.model.journal import Answer, Attempt, Entry, Settled
from gateway.model.journal import decode as decode_entry
from gateway.model.outcome import Outcome, Reason
from gateway.ports import Buffer, Log, Record
from gateway.sandbox.dub import DUB
from gateway.sandbox.voyado import VOYADO
from tests.gateways import ORIGIN, Gateway, Sandboxes

SENDERS = 24
TAKES = {
    "voyado": {"cart", "product"},
    "dub": {"lead", "sale", "customer"},
    "archive": {"page", "product", "cart", "lead", "sale", "customer", "custom"},
}


@dataclass
class Load:
    """What is posted: bodies, each the work of one visitor, and what was answered 2xx."""

    rng: random.Random
    now_ms: int
    events: int
    pause_seconds: float = 0.0
    """Of each sender between two posts, at most."""
    bodies: list[bytes] = field(default_factory=list)
    clicks: list[str] = field(default_factory=list)
    made: int = 0
    acknowledged: set[str] = field(default_factory=set)
    retries: int = 0

    def make(self) -> None:
        """Make every body: 2 to 30 events each, in an order a little shuffled, some twice."""
        visitors = 0
        while self.made < self.events:
            self._visit(visitors)
            visitors += 1
        copies = self.rng.sample(self.bodies, len(self.bodies) // 8)
        for copy in copies:
            self.bodies.insert(self.rng.randrange(len(self.bodies)), copy)

    def _visit(self, number: int) -> None:
        visitor, customer = f"v{number}", f"u{number}"
        click = f"click{number:011d}"
        context = {
            "consent": "full",
            "visitorId": visitor,
            "contactId": f"contact-{number}",
            "clickId": click,
            "language": "sv-SE",
        }
        self.clicks.append(click)
        moments = self.rng.sample(range(9000), self.rng.randint(8, 40))
        events = [self._event(n, number, customer, at) for n, at in enumerate(moments)]
        events.sort(key=lambda event: event["time"])
        lead = {"type": "lead", "eventName": "Sign up", "customerId": customer, "mode": "wait"}
        sale: dict[str, Any] = {
            "type": "sale",
            "amount": 4990,
            "currency": "sek",
            "invoiceId": f"o-{number}",
            "customerId": customer,
            "cartReference": f"c{number}",
        }
        events.append({**lead, **self._identity(f"lead-{number}", 10_000)})
        events.append({**sale, **self._identity(f"sale-{number}", 20_000)})
        self.made += len(events)
        while events:
            size = self.rng.randint(1, 20)
            body = {"key": "pk_shop", "context": context, "events": events[:size]}
            self.bodies.append(orjson.dumps(body))
            del events[:size]

    def _event(self, n: int, visit: int, customer: str, at_ms: int) -> dict[str, Any]:
        kind = self.rng.choice(["cart", "cart", "cart", "product", "product", "page", "custom"])
        event: dict[str, Any] = {
            "type": kind,
            **self._identity(f"{kind}-{visit}-{n}", at_ms),
        }
        if kind == "cart":
            event["cartReference"] = f"c{visit}"
            event["items"] = [{"sku": "S", "quantity": self.rng.randint(1, 9)}]
        elif kind == "product":
            event["itemId"] = f"{visit}-{n}"
        elif kind == "custom":
            event["eventName"] = "Wishlist"
            event["customerId"] = customer
        return event

    def _identity(self, name: str, at_ms: int) -> dict[str, str]:
        return {"id": name, "time": format_ms(self.now_ms - 60_000 + at_ms)}

    async def send(self, gateway: Gateway) -> None:
        """Post every body until it is answered 2xx, from several senders at once."""
        waiting = list(reversed(self.bodies))
        async with ClientSession(timeout=ClientTimeout(total=10)) as session:

            async def sender() -> None:
                while waiting:
                    await self._post(session, gateway.events_url, waiting.pop())
                    await asyncio.sleep(self.rng.uniform(0, self.pause_seconds))

            await asyncio.gather(*(sender() for _ in range(SENDERS)))

    async def _post(self, session: ClientSession, url: str, body: bytes) -> None:
        headers = {"Origin": ORIGIN, "Content-Type": "text/plain"}
        while True:
            sent_at = format_ms(time.time_ns() // 1_000_000)
            data = b'{"sentAt":"%s",%s' % (sent_at.encode(), body[1:])
            try:
                async with session.post(url, data=data, headers=headers) as answer:
                    status, text = answer.status, await answer.text()
            except (ClientError, OSError, TimeoutError):
                status, text = 0, ""
            if status == 204:
                self.acknowledged |= {each["id"] for each in orjson.loads(body)["events"]}
                return
            assert status in {0, 503}, (status, text)
            self.retries += 1
            await asyncio.sleep(self.rng.uniform(0.05, 0.3))


Place = tuple[int, int]
"""Partition and offset."""


@dataclass
class Account:
    """What the logs and the destinations hold."""

    envelopes: list[tuple[Place, Envelope]] = field(default_factory=list)
    fates: dict[str, dict[Place, Settled]] = field(default_factory=lambda: defaultdict(dict))
    in_doubt: set[tuple[str, Place]] = field(default_factory=set)
    """Destination and record: in a request without an answer when they were given up."""
    letters: dict[tuple[int, Subject], list[DeadLetter]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """By partition and what they are about, which two may be if one was killed burying."""
    replayed: set[tuple[int, Subject]] = field(default_factory=set)
    _unanswered: dict[str, set[Place]] = field(default_factory=lambda: defaultdict(set))

    async def read(self, buffer: Buffer) -> None:
        for partition in range(buffer.partitions):
            async for record in _all(buffer, Log.EVENTS, partition):
                place = (record.partition, record.offset)
                self.envelopes.append((place, decode(record.value)))
            async for record in _all(buffer, Log.OUTCOMES, partition):
                self._take(partition, decode_entry(record.value))
            async for record in _all(buffer, Log.DEAD, partition):
                self._take_dead(record, decode_dead(record.value))

    def _take(self, partition: int, entry: Entry) -> None:
        if isinstance(entry, Attempt):
            self._unanswered[entry.destination] |= {(partition, each) for each in entry.offsets}
        elif isinstance(entry, Answer):
            for settled in entry.settled:
                place = (partition, settled.offset)
                self.fates[entry.destination].setdefault(place, settled)
                if place in self._unanswered[entry.destination]:
                    self.in_doubt.add((entry.destination, place))
            if entry.endpoint is not None:
                answered = {(partition, each.offset) for each in entry.settled}
                answered |= {(partition, each.offset) for each in entry.postponed}
                self._unanswered[entry.destination] -= answered

    def _take_dead(self, record: Record, found: DeadLetter | Decision) -> None:
        if isinstance(found, DeadLetter):
            self.letters[record.partition, found.subject(record.offset)].append(found)
        elif found.deed is Deed.REPLAYED:
            self.replayed |= {(record.partition, each.subject) for each in found.letters}

    def refused(self) -> list[tuple[int, Subject]]:
        """What was refused for good, and not replayed since."""
        return [
            about
            for about, letters in self.letters.items()
            if about not in self.replayed and any(each.reason == Reason.REFUSED for each in letters)
        ]

    def replays(self) -> dict[tuple[str, Place], list[Place]]:
        """Of each destination and record its replays, in order; copies are left out."""
        found: dict[tuple[str, Place], list[Place]] = defaultdict(list)
        seen = set()
        for place, envelope in self.envelopes:
            if envelope.replay is not None and (place[0], envelope.dedup_key) not in seen:
                seen.add((place[0], envelope.dedup_key))
                origin = (place[0], envelope.replay.origin)
                found[envelope.replay.destination, origin].append(place)
        return found

    def originals(self) -> Iterator[tuple[Place, Envelope]]:
        """What came in: the events without their replays."""
        return (each for each in self.envelopes if each[1].replay is None)

    def without_outcome(self, destination: str) -> list[Place]:
        fates = self.fates[destination]
        return [
            place
            for place, envelope in self.envelopes
            if self.takes(destination, envelope) and place not in fates
        ]

    def takes(self, destination: str, envelope: Envelope) -> bool:
        if envelope.replay is not None and envelope.replay.destination != destination:
            return False
        recent = envelope.derived is not None and envelope.derived.kind == "recent"
        return envelope.type in TAKES[destination] and not (recent and destination != "voyado")


async def _all(buffer: Buffer, log: Log, partition: int) -> AsyncIterator[Record]:
    offset = (await buffer.span(log, partition)).first
    while page := await buffer.read(log, partition, offset, 1000):
        for record in page:
            yield record
        offset = page[-1].offset + 1


def judge(
    load: Load, account: Account, there: Sandboxes, folder: Path, *, may_be_late: bool = False
) -> list[str]:
    """Compare them, and say it in lines. Raises AssertionError with what does not fit.

    `may_be_late`: requests were held up on their way to Voyado, or their senders were frozen; an
    older state of a cart may then arrive after a newer one, and Voyado goes by its time.
    """
    ids = {envelope.id for _, envelope in account.envelopes}
    lost = load.acknowledged - ids
    assert not lost, f"answered 2xx, not in the log: {sorted(lost)[:5]}"
    lines = [f"{len(load.acknowledged)} events answered 2xx, {len(account.envelopes)} records"]
    lines += [_outcomes(account, destination) for destination in TAKES]
    lines.append(_replays(account))
    lines.append(_carts(account, there, may_be_late=may_be_late))
    lines.append(_once(account, there))
    lines.append(_views(account, there))
    lines.append(_file(account, folder))
    return lines


def _outcomes(account: Account, destination: str) -> str:
    fates = account.fates[destination]
    without = account.without_outcome(destination)
    assert not without, f"{destination}: no outcome for {without[:5]}"
    counts = Counter(f"{fate.outcome}" for fate in fates.values())
    return f"{destination}: " + ", ".join(f"{n} {name}" for name, n in sorted(counts.items()))


def _replays(account: Account) -> str:
    """Whoever was replayed has gone through in the end: once, or as often as does no harm."""
    ends: Counter[str] = Counter()
    refused = account.refused()
    assert not refused, f"refused, and not replayed: {refused[:5]}"
    types = {place: envelope.type for place, envelope in account.originals()}
    replays = account.replays()
    for (destination, origin), places in replays.items():
        fates = [account.fates[destination][place] for place in (origin, *places)]
        ends[fates[-1].outcome] += 1
        assert fates[-1].reason is not Reason.REFUSED, (destination, origin)
        delivered = [fate for fate in fates if fate.outcome is Outcome.DELIVERED]
        # Killed while it buried, it may have tried again beside its letter: where that is safe.
        assert len(delivered) <= 1 or types[origin] != "product", (destination, origin)
    told = ", ".join(f"{number} {name}" for name, number in sorted(ends.items())) or "none"
    written = sum(envelope.replay is not None for _, envelope in account.envelopes)
    copies = written - sum(map(len, replays.values()))
    return f"{written - copies} replays of {len(replays)} refused: {told}; {copies} copies of them"


def _carts(account: Account, there: Sandboxes, *, may_be_late: bool) -> str:
    held = there.voyado[VOYADO]
    folds: dict[int, Carts] = defaultdict(lambda: Carts(1000))
    seen: set[str] = set()
    newest: dict[str, tuple[Envelope, int]] = {}
    for (partition, offset), envelope in account.originals():
        if envelope.type != "cart" or envelope.dedup_key in seen:
            continue
        seen.add(envelope.dedup_key)
        update = Update(
            offset,
            envelope.sender,
            envelope.own_ms,
            envelope.corrected_ms,
            closes=envelope.derived is not None,
        )
        reference = envelope.event["cartReference"]
        sent_ms = folds[partition].see(reference, update)
        if sent_ms is not None:
            newest[reference] = (envelope, sent_ms)
    for reference, (envelope, sent_ms) in newest.items():
        cart = held.carts[reference].cart
        assert [item.quantity for item in cart.items] == [
            item["quantity"] for item in envelope.event["items"]
        ], reference
        assert cart.time == format_ms(sent_ms, whole_seconds=True).replace("Z", "+00:00")
    late = [update for update in held.updates if update.went_back]
    assert may_be_late or not late, late[:3]
    return (
        f"{len(newest)} carts in their newest state, none went back;"
        f" {len(late)} of {len(held.updates)} updates arrived late"
    )


def _once(account: Account, there: Sandboxes) -> str:
    workspace = there.dub[DUB]
    leads = Counter((lead.external_id, lead.event_name) for lead in workspace.leads)
    sales = Counter(sale.invoice_id for sale in workspace.sales)
    assert max(leads.values()) == 1, leads.most_common(3)
    assert max(sales.values()) == 1, sales.most_common(3)
    wanted = {e.event["invoiceId"] for _, e in account.envelopes if e.type == "sale"}
    assert set(sales) == wanted
    assert {customer for customer, _ in leads} == {
        e.event["customerId"] for _, e in account.envelopes if e.type == "lead"
    }
    return f"{len(leads)} leads and {len(sales)} sales at Dub, each once"


def _views(account: Account, there: Sandboxes) -> str:
    sent = Counter(each.view.item_id for each in there.voyado[VOYADO].views)
    fates = account.fates["voyado"]
    replays = account.replays()
    unknown = 0
    for place, envelope in account.originals():
        if envelope.type != "product" or fates[place].outcome is Outcome.DUPLICATE:
            continue
        times = sent[envelope.event["itemId"]]
        tries = (place, *replays.get(("voyado", place), ()))
        if any(fates[each].outcome is Outcome.DELIVERED for each in tries):
            assert times == 1, (envelope.id, times)
            continue
        assert fates[tries[-1]].reason is Reason.UNKNOWN, fates[tries[-1]]
        assert ("voyado", tries[-1]) in account.in_doubt, "no request of it was in flight"
        assert times <= 1
        unknown += 1
    return (
        f"{len(sent)} views at Voyado, each once; {unknown} in flight at a kill, buried as unknown"
    )


def _file(account: Account, folder: Path) -> str:
    lines: Counter[str] = Counter()
    for path in (folder / "archive").glob("*.ndjson"):
        lines.update(orjson.loads(line)["id"] for line in path.read_bytes().splitlines())
    fates = account.fates["archive"]
    wanted = {
        envelope.id
        for place, envelope in account.envelopes
        if place in fates and fates[place].outcome is Outcome.DELIVERED
    }
    assert wanted <= set(lines)
    again = sum(lines.values()) - len(lines)
    return f"{len(lines)} events in the file (by id), {again} lines written again after a kill"
