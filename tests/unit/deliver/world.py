"""A small world for deliver: a log in memory, a destination that misbehaves as told, crashes."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from gateway.adapters.memory import MemoryBuffer
from gateway.deliver.consume import Deliver
from gateway.deliver.settings import DestinationSettings
from gateway.deliver.steady import SteadyClock
from gateway.deliver.worker import House
from gateway.model import dead, journal
from gateway.model.attempt import Again, Done, Item, Reply, Request, Skip, Verdict
from gateway.model.envelope import Derived, Envelope, encode
from gateway.model.instant import format_ms
from gateway.model.journal import Answer, Postponed, Settled
from gateway.model.outcome import Outcome, Reason
from gateway.model.routing import partition_of
from gateway.model.window import DedupSettings
from gateway.ports import Draft, Log
from tests.virtual import START_MS, VirtualClock

NAME = "there"
SITE = "shop"

Behaviour = Literal[
    "ok",
    "busy",
    "refuse",
    "lost-done",
    "lost-undone",
    "unreachable",
    "slow",
    "slow-lost",
    "forbidden",
    "limited",
]


def settings(**over: Any) -> DestinationSettings:
    base: dict[str, Any] = {
        "events": ("product", "cart", "lead", "sale"),
        "batch_seconds": 0.5,
        "batch_events": 10,
        "rate_per_second": 1000.0,
    }
    return DestinationSettings(**{**base, **over})


def cart(
    reference: str, at_ms: int, items: int = 1, *, sender: str = "v1", close: bool = False
) -> Envelope:
    """An update of a cart; `at_ms` after the start."""
    time_ms = START_MS + at_ms
    event = {
        "type": "cart",
        "id": f"{reference}-{at_ms}-{sender}{'-close' if close else ''}",
        "time": format_ms(time_ms),
        "cartReference": reference,
        "items": [{"sku": "S", "quantity": items}] if items else [],
        "visitorId": sender,
    }
    key = f"close|{reference}|{time_ms}" if close else f"cart|{reference}|{time_ms}"
    derived = Derived("close", "sale") if close else None
    return Envelope(SITE, key, time_ms, time_ms, "full", event, derived=derived)


def view(name: str, at_ms: int = 0) -> Envelope:
    """A product view: nothing at the destination tells a copy."""
    time_ms = START_MS + at_ms
    event = {"type": "product", "id": name, "time": format_ms(time_ms), "itemId": "S"}
    return Envelope(SITE, f"id|{name}", time_ms, time_ms, "full", event)


def lead(name: str, customer: str, at_ms: int = 0) -> Envelope:
    """A lead: the destination tells a copy by its id."""
    time_ms = START_MS + at_ms
    event = {
        "type": "lead",
        "id": name,
        "time": format_ms(time_ms),
        "customerId": customer,
        "eventName": "Sign up",
    }
    return Envelope(SITE, f"id|{name}", time_ms, time_ms, "full", event)


def routing_key(envelope: Envelope) -> str:
    event = envelope.event
    return str(event.get("cartReference") or event.get("customerId") or event["id"])


_AGAIN: dict[Behaviour, Again] = {
    "unreachable": Again(Reason.UNREACHABLE, detail="no connection"),
    "forbidden": Again(Reason.UNAUTHORIZED, detail="HTTP 401"),
    "limited": Again(Reason.RATE_LIMITED, 600.0),
}


@dataclass
class There:
    """The destination. `behave` gives what befalls each request, in turn; then all is well."""

    behave: Iterator[Behaviour] = field(default_factory=lambda: iter(()))
    poison: frozenset[str] = frozenset()
    """Ids of events that it refuses, and with them the batch that they are in."""
    step_ms: int = 1000
    received: list[tuple[str, Any]] = field(default_factory=list)
    """What it carried out, in order: kind and body."""
    requests: list[list[str]] = field(default_factory=list)
    carts: dict[str, Any] = field(default_factory=dict)
    on_send: Callable[[Request], None] | None = None
    needs_contact: bool = True

    @property
    def cart_step_ms(self) -> int:
        return self.step_ms

    def prepare(self, envelope: Envelope, time_ms: int) -> Item | Skip:
        fields = envelope.fields()
        if fields.get("contactId") == "none":
            return Skip(Reason.NO_CONTACT)
        body = {**fields, "sent_ms": time_ms}
        if envelope.type == "cart":
            return Item("carts", "cart|" + fields["cartReference"], repeatable=True, body=body)
        if envelope.type == "product":
            return Item("views", None, repeatable=False, body=body)
        return Item("leads", "customer|" + fields["customerId"], repeatable=True, body=body)

    def batch_limit(self, kind: str) -> int:
        return 1 if kind == "leads" else 100

    def request(self, items: Sequence[Item]) -> Request:
        bodies = [item.body for item in items]
        return Request(items[0].kind, orjson.dumps(bodies), tuple(items))

    async def send(self, request: Request) -> Reply:
        if self.on_send:
            self.on_send(request)
        self.requests.append([item.body["id"] for item in request.items])
        behaviour: Behaviour = next(self.behave, "ok")
        if behaviour in {"slow", "slow-lost"}:
            await asyncio.sleep(5)
        verdict = self._verdict(behaviour, request)
        if behaviour in {"ok", "slow", "lost-done"} and not self._refused(request):
            for item in request.items:
                self._carry_out(request.endpoint, item.body)
        await asyncio.sleep(0.05)
        return Reply((verdict,) * len(request.items))

    def _refused(self, request: Request) -> bool:
        return any(item.body["id"] in self.poison for item in request.items)

    def _verdict(self, behaviour: Behaviour, request: Request) -> Verdict:
        if behaviour in {"lost-done", "lost-undone", "slow-lost"}:
            return Again(Reason.NO_ANSWER)
        if behaviour == "busy":
            return Again(Reason.UNAVAILABLE)
        if behaviour in _AGAIN:
            return _AGAIN[behaviour]
        if behaviour == "refuse" or self._refused(request):
            if len(request.items) > 1:
                return Again(Reason.SPLIT, 0.0)
            return Done(Outcome.DEAD, Reason.REFUSED, "wrong")
        return Done(Outcome.DELIVERED)

    def _carry_out(self, kind: str, body: Any) -> None:
        self.received.append((kind, body))
        if kind == "carts":
            held = self.carts.get(body["cartReference"])
            if held is None or body["sent_ms"] >= held["sent_ms"]:
                self.carts[body["cartReference"]] = body

    async def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    def ids(self, kind: str) -> list[str]:
        return [body["id"] for each, body in self.received if each == kind]


class World:
    """The log, the destination, and a deliver process that can be killed and started."""

    def __init__(
        self,
        there: There | None = None,
        *,
        partitions: int = 1,
        dedup: DedupSettings | None = None,
        **over: Any,
    ) -> None:
        self.clock = VirtualClock()
        self.buffer = MemoryBuffer(self.clock, partitions)
        self.there = there or There()
        self.settings = settings(**over)
        self.dedup = dedup or DedupSettings()
        self.published: list[Envelope] = []
        self._processes: list[asyncio.Task[None]] = []
        self._ending = asyncio.Event()

    async def publish(self, *envelopes: Envelope) -> None:
        drafts = [
            Draft(partition_of(routing_key(each), self.buffer.partitions), encode(each))
            for each in envelopes
        ]
        await self.buffer.publish(Log.EVENTS, drafts)
        self.published += envelopes

    def start(self) -> None:
        """Start a process that delivers (another one, when one runs)."""
        clock = SteadyClock(self.clock, asyncio.get_running_loop().time)
        house = House(self.buffer, {SITE: frozenset({NAME})}, clock, self.dedup, 7 * 86_400.0)
        deliver = Deliver(NAME, self.there, self.settings, house)
        self._processes.append(asyncio.ensure_future(deliver.run(self._ending)))

    async def kill(self) -> None:
        """End it at once, as kill -9 does: nothing more is written."""
        for process in self._processes:
            process.cancel()
            with suppress(asyncio.CancelledError):
                await process
        self._processes.clear()

    async def stop(self) -> None:
        """End it in order."""
        self._ending.set()
        await asyncio.gather(*self._processes)
        self._processes.clear()
        self._ending = asyncio.Event()

    async def until(self, condition: Callable[[], bool], seconds: float = 3600.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                self.check_alive()
                await asyncio.sleep(0.1)

    def check_alive(self) -> None:
        for process in self._processes:
            if process.done():
                process.result()

    async def until_settled(self, seconds: float = 9000.0) -> None:
        """Wait until every partition is committed to its end."""
        async with asyncio.timeout(seconds):
            for partition in range(self.buffer.partitions):
                while not await self._committed(partition):
                    self.check_alive()
                    await asyncio.sleep(1)

    def committed_offset(self, partition: int = 0) -> int | None:
        position = self.buffer.committed(NAME, partition)
        return None if position is None else position.offset

    async def _committed(self, partition: int) -> bool:
        span = await self.buffer.span(Log.EVENTS, partition)
        position = self.buffer.committed(NAME, partition)
        return span.next == 0 or (position is not None and position.offset == span.next)

    async def entries(self) -> list[tuple[int, journal.Entry]]:
        found = []
        for partition in range(self.buffer.partitions):
            records = await self.buffer.read(Log.OUTCOMES, partition, 0, 1_000_000)
            found += [(partition, journal.decode(record.value)) for record in records]
        return found

    async def letters(self) -> list[dead.DeadLetter]:
        """Every dead letter."""
        found = [
            dead.decode(record.value)
            for partition in range(self.buffer.partitions)
            for record in await self.buffer.read(Log.DEAD, partition, 0, 1_000_000)
        ]
        return [each for each in found if isinstance(each, dead.DeadLetter)]

    async def postponed(self) -> list[Postponed]:
        """Every try that was put off, in order."""
        answers = [each for _, each in await self.entries() if isinstance(each, Answer)]
        return [each for answer in answers for each in answer.postponed]

    async def outcomes(self) -> dict[tuple[int, int], list[Settled]]:
        """Every outcome written, by partition and offset."""
        found: dict[tuple[int, int], list[Settled]] = defaultdict(list)
        for partition, entry in await self.entries():
            if isinstance(entry, Answer):
                for settled in entry.settled:
                    found[partition, settled.offset].append(settled)
        return found

    async def fates(self) -> dict[str, Settled]:
        """The outcome that counts of each event, by id (of a copy: the last one's)."""
        outcomes = await self.outcomes()
        found = {}
        for partition in range(self.buffer.partitions):
            for record in await self.buffer.read(Log.EVENTS, partition, 0, 1_000_000):
                event = orjson.loads(record.value)["event"]
                if (partition, record.offset) in outcomes:
                    found[event["id"]] = outcomes[partition, record.offset][0]
        return found
