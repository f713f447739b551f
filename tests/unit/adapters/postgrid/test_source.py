"""What webhooks bring goes through ingest once, whatever happens between publish and answer."""

from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from gateway.adapters.memory import MemoryBuffer
from gateway.adapters.postgrid.client import PostGridClient
from gateway.adapters.postgrid.memory import Memory
from gateway.adapters.postgrid.pull import Puller
from gateway.adapters.postgrid.settings import PostgridSettings
from gateway.adapters.postgrid.source import ClientOrders, PostgridSource
from gateway.ingest import Ingest, SiteSettings
from gateway.model.envelope import decode
from gateway.model.window import DedupSettings
from gateway.ports import Hook, Log
from tests.mailhouse import MailHouse, json_hook, order, token, visit
from tests.virtual import START_MS, VirtualClock, run

SECRET = "webhook_secret_demo_0123456789"
DAY_MS = 86_400_000


class Office:
    """A gateway's source over a buffer that outlives it, and an account."""

    def __init__(self, partitions: int = 3, **settings: Any) -> None:
        self.clock = VirtualClock()
        self.buffer = MemoryBuffer(self.clock, partitions)
        self.house = MailHouse()
        self._settings = PostgridSettings(
            kind="postgrid",
            site="shop",
            api_key=SecretStr("test_sk_1"),
            webhook_secrets=(SecretStr(SECRET),),
            **{"rate_per_second": 1000, **settings},
        )
        self.begin()

    def begin(self) -> None:
        """Begin anew, as after a crash: nothing is remembered but what the buffer holds."""
        ingest = Ingest({"shop": SiteSettings()}, self.buffer, self.clock, DedupSettings())
        client = PostGridClient(self._settings, self.house, self.clock, patience_seconds=1)
        memory = Memory("mail", self.buffer)
        self.source = PostgridSource(
            self._settings, memory, ingest, ClientOrders(client), self.clock
        )
        self.puller = Puller("mail", client, self.source)

    async def hook(self, kind: str, data: object) -> Hook:
        return await self.source.receive(token(kind, data, SECRET, self.clock.now_ms()), {})

    async def written(self) -> list[dict[str, Any]]:
        """Return every record of the log, copies too, a partition after the other."""
        found = []
        for partition in range(self.buffer.partitions):
            records = await self.buffer.read(Log.EVENTS, partition, 0, 100_000)
            found += [decode(record.value).public() for record in records]
        return found

    async def counted(self) -> list[dict[str, Any]]:
        """Return what a destination gets: of equal dedup keys in a partition, the first."""
        first: dict[tuple[int, str], dict[str, Any]] = {}
        for partition in range(self.buffer.partitions):
            for record in await self.buffer.read(Log.EVENTS, partition, 0, 100_000):
                envelope = decode(record.value)
                first.setdefault((partition, envelope.dedup_key), envelope.public())
        return list(first.values())


def ids(events: list[dict[str, Any]]) -> list[str]:
    return sorted(event["id"] for event in events)


def statuses(events: list[dict[str, Any]]) -> list[str]:
    return [event["status"] for event in events]


def test_an_order_in_both_formats_is_one_event_and_no_more_when_postgrid_repeats_it() -> None:
    async def main() -> None:
        office = Office()
        raw = order("letter_1", "ready", START_MS)
        assert await office.hook("letter.created", raw) is Hook.TAKEN
        body, signature = json_hook("letter.updated", raw, SECRET, START_MS)
        headers = {"PostGrid-Signature": signature}
        assert await office.source.receive(body, headers) is Hook.KNOWN
        office.begin()
        assert await office.hook("letter.updated", raw) is Hook.KNOWN
        [event] = await office.written()
        assert event["customerId"] == "u-1"
        assert event["consent"] == "full"

    run(main)


def test_orders_of_return_envelopes_are_told_of_by_webhooks_and_by_the_listing_of_events() -> None:
    async def main() -> None:
        office = Office()
        name = "return_envelope_order"
        placed = order(f"{name}_1", "placed", START_MS, quantityOrdered=100)
        filled = {**placed, "status": "filled"}  # at once: how far it is decides
        assert await office.hook(f"{name}.created", placed) is Hook.TAKEN
        assert await office.hook(f"{name}.updated", filled) is Hook.TAKEN
        assert await office.hook(f"{name}.created", placed) is Hook.KNOWN
        other = order(f"{name}_2", "placed", START_MS)
        office.house.events.append(
            {"id": "event_1", "type": f"{name}.created", "data": other, "createdAt": None}
        )
        await office.puller.poll()
        events = await office.written()
        assert {each["kind"] for each in events} == {name}
        assert sorted(statuses(events)) == ["filled", "placed", "placed"]

    run(main)


def test_a_late_retry_of_an_older_state_is_ignored_on_every_replica() -> None:
    async def main() -> None:
        office = Office()
        ready, printing = (
            order("letter_1", "ready", START_MS),
            order("letter_1", "printing", START_MS + 1),
        )
        assert await office.hook("letter.updated", printing) is Hook.TAKEN
        office.begin()
        assert await office.hook("letter.created", ready) is Hook.KNOWN
        assert statuses(await office.written()) == ["printing"]

    run(main)


def test_a_visit_comes_once_with_what_its_order_tells() -> None:
    async def main() -> None:
        office = Office()
        office.house.orders["letter_1"] = order("letter_1", "completed", START_MS)
        raw = visit(1, "letter_1", START_MS)
        assert await office.hook("tracker.visited", raw) is Hook.TAKEN
        assert await office.hook("tracker.visited", raw) is Hook.KNOWN
        [event] = await office.written()
        assert event["mailReference"] == "mail-1"
        assert event["ipAddress"] == "203.0.113.0"

    run(main)


def test_a_visit_whose_order_cannot_be_got_now_is_asked_for_again_and_not_lost() -> None:
    async def main() -> None:
        office = Office()
        office.house.orders["letter_1"] = order("letter_1", "completed", START_MS)
        office.house.down = lambda path: path.startswith("letters/")
        raw = visit(1, "letter_1", START_MS)
        assert await office.hook("tracker.visited", raw) is Hook.UNAVAILABLE
        assert await office.written() == []
        office.house.down = lambda _path: False
        assert await office.hook("tracker.visited", raw) is Hook.TAKEN
        [event] = await office.written()
        assert event["customerId"] == "u-1"

    run(main)


def test_a_visit_whose_order_is_nowhere_comes_without_it() -> None:
    async def main() -> None:
        office = Office()
        assert await office.hook("tracker.visited", visit(1, "../x", START_MS)) is Hook.TAKEN
        [event] = await office.written()
        assert event["orderId"] == "../x"

    run(main)


@pytest.mark.parametrize("log", [Log.EVENTS, Log.STATE])
@pytest.mark.parametrize("written", [True, False])
def test_what_was_not_answered_comes_again_and_counts_once(log: Log, *, written: bool) -> None:
    async def main() -> None:
        office = Office()
        office.house.orders["letter_2"] = order("letter_2", "ready", START_MS)
        messages = [
            ("letter.created", order("letter_1", "ready", START_MS)),
            ("tracker.visited", visit(1, "letter_2", START_MS)),
        ]
        for kind, raw in messages:
            office.buffer.fail_next(log, written=written)
            assert await office.hook(kind, raw) is Hook.UNAVAILABLE
            office.begin()  # killed before the answer
            assert await office.hook(kind, raw) in {Hook.TAKEN, Hook.KNOWN}
        assert len(await office.counted()) == 2

    run(main)


def test_kinds_that_make_no_event_are_told_apart_from_what_is_not_signed() -> None:
    async def main() -> None:
        office = Office()
        for kind in ("campaign.created", "virtual_mailbox_item.created", "letter.exploded"):
            assert await office.hook(kind, {"id": "x_1"}) is Hook.UNUSED
        assert await office.hook("letter.created", {"no": "id"}) is Hook.UNREADABLE
        assert await office.source.receive(b"{}", {}) is Hook.WRONG_SIGNATURE
        old = token("letter.created", {}, SECRET, START_MS - DAY_MS)
        assert await office.source.receive(old, {}) is Hook.STALE
        assert await office.written() == []

    run(main)


def nested(depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for _ in range(depth):
        found = {"a": found}
    return found


@pytest.mark.parametrize(
    "rubbish",
    [None, 7, "x", [], {}, True, -1.5, "\u0000", "a\nb", "é" * 3000, "../..", nested(200)],
    ids=lambda each: repr(each)[:20],
)
def test_whatever_postgrid_signs_has_an_end_and_makes_a_valid_event_or_none(rubbish: Any) -> None:
    async def main() -> None:
        office = Office()
        fields = ("id", "status", "imbDate", "metadata", "createdAt", "updatedAt", "live")
        for name in fields:
            await office.hook("letter.updated", {**order("letter_1", "x", START_MS), name: rubbish})
        for name in ("id", "tracker", "orderID", "device", "ipAddress", "createdAt", "live"):
            await office.hook("tracker.visited", {**visit(1, "letter_1", START_MS), name: rubbish})
        await office.hook("letter.updated", rubbish)
        for event in await office.written():
            assert event["type"] in {"mail_order", "mail_visit"}
            assert 0 < len(event["id"]) <= 64
            assert len(orjson.dumps(event)) < 65_536

    run(main)


def test_a_tracker_in_place_of_its_visit_makes_the_polling_look_at_once() -> None:
    async def main() -> None:
        office = Office()
        assert await office.hook("tracker.visited", {"id": "tracker_1"}) is Hook.UNUSED
        assert office.source.announced.is_set()

    run(main)


def test_states_are_kept_under_the_sources_name_and_nothing_of_a_person_with_them() -> None:
    async def main() -> None:
        office = Office(partitions=1)
        await office.hook("letter.created", order("letter_1", "ready", START_MS))
        [record] = await office.buffer.read(Log.STATE, 0, 0, 10)
        assert record.key == b"source/mail/order/letter_1"
        assert orjson.loads(record.value)[1] == START_MS
        assert b"u-1" not in record.value

    run(main)
