"""Delivery at its edges: what is not sent, what a destination's own faults do, what is bounded."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import repeat

import pytest

from gateway.deliver import worker
from gateway.deliver.worker import OPEN_RECORDS
from gateway.model.attempt import Again, Done, Item, Reply, Request, Skip, Tried
from gateway.model.envelope import Derived, Envelope
from gateway.model.instant import format_ms
from gateway.model.journal import Answer, Attempt, Open, Pause, Postponed, Settled, Snapshot
from gateway.model.outcome import Outcome, Reason
from gateway.model.recovery import Recovery
from gateway.model.window import DedupSettings
from gateway.ports import Draft, Log
from tests.unit.deliver.world import There, World, cart, lead, view
from tests.virtual import START_MS, run


def sale(name: str, invoice: str, amount: int, currency: str = "sek") -> Envelope:
    event = {
        "type": "sale",
        "id": name,
        "time": format_ms(START_MS),
        "customerId": "u1",
        "invoiceId": invoice,
        "amount": amount,
        "currency": currency,
    }
    return Envelope("shop", f"invoice|{invoice}", START_MS, START_MS, "full", event)


def test_a_second_sale_of_an_invoice_is_a_duplicate_that_says_when_it_differs() -> None:
    async def main() -> None:
        world = World()
        await world.publish(
            sale("s1", "o1", 100), sale("s2", "o1", 100, "SEK"), sale("s3", "o1", 90)
        )
        world.start()
        await world.until_settled()
        await world.stop()
        fates = await world.fates()
        assert world.there.ids("leads") == ["s1"]
        assert (fates["s2"].outcome, fates["s2"].reason) == (Outcome.DUPLICATE, Reason.REPEATED)
        assert (fates["s3"].outcome, fates["s3"].reason) == (Outcome.DUPLICATE, Reason.DIFFERS)

    run(main)


def test_what_is_not_for_the_destination_has_no_outcome_there() -> None:
    async def main() -> None:
        world = World(There(needs_contact=False), events=("product",))
        recent = replace(view("r1"), derived=Derived("recent", "c"))
        await world.publish(
            replace(view("other"), site="elsewhere"), lead("l1", "u1"), recent, view("v1")
        )
        world.start()
        await world.until_settled()
        await world.stop()
        assert list(await world.fates()) == ["v1"]

    run(main)


def test_a_destination_that_needs_consent_gets_nothing_without() -> None:
    async def main() -> None:
        world = World(needs_consent=True)
        await world.publish(replace(view("limited"), consent="limited"), view("full"))
        world.start()
        await world.until_settled()
        await world.stop()
        assert world.there.ids("views") == ["full"]
        assert (await world.fates())["limited"].reason is Reason.NO_CONSENT

    run(main)


def test_what_the_destination_has_no_use_for_is_skipped() -> None:
    async def main() -> None:
        world = World()
        anonymous = view("v1")
        anonymous.event["contactId"] = "none"
        await world.publish(anonymous)
        world.start()
        await world.until_settled()
        await world.stop()
        assert (await world.fates())["v1"] == Settled(0, Outcome.SKIPPED, Reason.NO_CONTACT)

    run(main)


def test_a_cart_older_than_the_window_reaches_is_not_sent_but_a_close_is() -> None:
    async def main() -> None:
        world = World(dedup=DedupSettings(window_records=5))
        world.start()
        await asyncio.sleep(20)
        await world.publish(*(view(f"v{n}", 20_000) for n in range(10)))
        await world.until_settled()
        await world.publish(cart("c1", 0), cart("c2", 0, 0, close=True))
        await world.until_settled()
        await world.stop()
        assert list(world.there.carts) == ["c2"]
        assert (await world.fates())["c1-0-v1"].outcome is Outcome.SUPERSEDED

    run(main)


def test_a_second_state_older_than_the_window_reaches_is_not_sent_either() -> None:
    async def main() -> None:
        world = World(dedup=DedupSettings(window_records=5))
        world.start()
        await asyncio.sleep(20)
        await world.publish(cart("c1", 15_000), *(view(f"v{n}", 20_000) for n in range(10)))
        await world.until_settled()
        await world.publish(cart("c1", 1_000, sender="v2"), cart("c1", 2_000, sender="v2"))
        await world.until_settled()
        await world.stop()
        assert world.there.ids("carts") == ["c1-15000-v1"]

    run(main)


def test_an_event_that_became_too_old_while_it_waited_is_skipped() -> None:
    async def main() -> None:
        world = World(There(behave=repeat("unreachable")), max_age_seconds=3600)
        await world.publish(view("v1"))
        world.start()
        await asyncio.sleep(3500)
        assert await world.fates() == {}
        await world.until_settled()
        await world.stop()
        assert (await world.fates())["v1"] == Settled(0, Outcome.SKIPPED, Reason.TOO_OLD)

    run(main)


@dataclass
class Faulty(There):
    """Its own code fails on some events."""

    fails_in: str = ""

    def prepare(self, envelope: Envelope, time_ms: int) -> Item | Skip:
        if self.fails_in == "prepare" and envelope.id == "bad":
            raise ZeroDivisionError
        return super().prepare(envelope, time_ms)

    def request(self, items: Sequence[Item]) -> Request:
        if self.fails_in == "request" and any(item.body["id"] == "bad" for item in items):
            raise ZeroDivisionError
        return super().request(items)

    async def send(self, request: Request) -> Reply:
        if self.fails_in == "send" and any(item.body["id"] == "bad" for item in request.items):
            raise ZeroDivisionError
        return await super().send(request)


@pytest.mark.parametrize(
    ("where", "reason"),
    [
        pytest.param("prepare", Reason.REFUSED, marks=pytest.mark.logs_errors("can't be prepared")),
        pytest.param(
            "request", Reason.REFUSED, marks=pytest.mark.logs_errors("no request could be made")
        ),
        pytest.param("send", Reason.UNKNOWN, marks=pytest.mark.logs_errors("views failed")),
    ],
)
def test_a_fault_of_the_destinations_code_harms_only_the_event_that_it_is_about(
    where: str, reason: Reason
) -> None:
    async def main() -> None:
        alone = 1 if where == "send" else 10
        world = World(Faulty(fails_in=where), batch_events=alone)
        await world.publish(view("v1"), view("bad"), view("v2"), view("v3"))
        world.start()
        await world.until_settled()
        await world.stop()
        assert sorted(world.there.ids("views")) == ["v1", "v2", "v3"]
        fates = await world.fates()
        assert (fates["bad"].outcome, fates["bad"].reason) == (Outcome.DEAD, reason)
        assert len(await world.buffer.read(Log.DEAD, 0, 0, 10)) == 1

    run(main)


@dataclass
class Waits(There):
    """Books a sale only after a lead of the customer, as Dub does; else it says so."""

    async def send(self, request: Request) -> Reply:
        self.requests.append([item.body["id"] for item in request.items])
        body = request.items[0].body
        known = any(each["customerId"] == body["customerId"] for _, each in self.received)
        if body["type"] == "sale" and not known:
            nobody = Done(Outcome.UNATTRIBUTED, Reason.UNKNOWN_CUSTOMER)
            again = Again(Reason.UNKNOWN_CUSTOMER, 1800.0, within_seconds=3600, then=nobody)
            return Reply((again,))
        self._carry_out(request.endpoint, body)
        return Reply((Done(Outcome.DELIVERED),))


def test_a_sale_before_its_lead_waits_and_lets_the_lead_pass() -> None:
    async def main() -> None:
        world = World(Waits())
        await world.publish(sale("s1", "o1", 100))
        world.start()
        await asyncio.sleep(120)
        await world.publish(lead("l1", "u1"))
        await world.until_settled(10)
        await world.stop()
        assert world.there.ids("leads") == ["l1", "s1"]

    run(main)


def test_a_sale_whose_lead_never_comes_is_unattributed_after_its_wait() -> None:
    async def main() -> None:
        world = World(Waits())
        await world.publish(sale("s1", "o1", 100))
        began = world.clock.now_ms()
        world.start()
        await world.until_settled()
        await world.stop()
        assert (await world.fates())["s1"].outcome is Outcome.UNATTRIBUTED
        assert 3_600_000 <= world.clock.now_ms() - began < 3_610_000
        assert len(world.there.requests) == 3

    run(main)


def test_no_more_is_read_than_may_wait() -> None:
    async def main() -> None:
        world = World(There(behave=repeat("unreachable")))
        for start in range(0, OPEN_RECORDS + 3000, 500):
            await world.publish(*(view(f"v{n}") for n in range(start, start + 500)))
        world.start()
        await asyncio.sleep(100)
        [snapshot] = [each for _, each in await world.entries() if isinstance(each, Snapshot)][1:]
        assert OPEN_RECORDS <= len(snapshot.open) < OPEN_RECORDS + 500
        world.there.behave = iter(())
        await world.until_settled()
        await world.stop()
        assert len(world.there.ids("views")) == OPEN_RECORDS + 3000

    run(main)


@dataclass
class Limits(There):
    """Asks for less, in its own words."""

    answers: int = 2

    async def send(self, request: Request) -> Reply:
        if self.answers:
            self.answers -= 1
            self.requests.append([])
            return Reply((Again(Reason.RATE_LIMITED, 60.0),) * len(request.items))
        return await super().send(request)


def test_retry_after_slows_the_whole_destination() -> None:
    async def main() -> None:
        world = World(Limits(answers=1))
        await world.publish(view("v1"))
        world.start()
        await world.until(lambda: world.there.requests == [[]])
        began = world.clock.now_ms()
        taken_ms: list[int] = []
        world.there.on_send = lambda _: taken_ms.append(world.clock.now_ms())
        await world.publish(view("v2"))
        await world.until_settled()
        await world.stop()
        assert taken_ms[0] - began >= 59_000
        assert sorted(world.there.ids("views")) == ["v1", "v2"]

    run(main)


def test_asking_for_less_opens_no_breaker_and_buries_nothing() -> None:
    async def main() -> None:
        world = World(Limits(answers=30))
        await world.publish(view("v1"))
        world.start()
        await world.until_settled()
        await world.stop()
        assert world.there.ids("views") == ["v1"]

    run(main)


def test_the_rate_is_kept() -> None:
    async def main() -> None:
        world = World(rate_per_second=2.0, batch_events=1)
        await world.publish(*(view(f"v{n}") for n in range(40)))
        began = world.clock.now_ms()
        world.start()
        await world.until_settled()
        await world.stop()
        assert 18_000 < world.clock.now_ms() - began < 25_000

    run(main)


def test_replicas_share_the_rate_by_the_partitions_that_they_own() -> None:
    async def main() -> None:
        world = World(partitions=4, rate_per_second=4.0, batch_events=1)
        await world.publish(*(view(f"v{n}") for n in range(80)))
        began = world.clock.now_ms()
        world.start()
        world.start()
        await world.until_settled()
        await world.stop()
        assert world.clock.now_ms() - began > 18_000

    run(main)


def test_of_a_request_the_first_2_kb_are_kept() -> None:
    async def main() -> None:
        world = World(There(poison=frozenset({"v0"})), batch_events=100)
        for name in ("v0", "v1"):
            long = view(name)
            long.event["itemId"] = "a" * 4000
            await world.publish(long)
        world.start()
        await world.until_settled()
        await world.stop()
        kept = [each.request for _, each in await world.entries() if isinstance(each, Attempt)]
        kept += [each.request for each in await world.letters()]
        assert len(kept) == 4
        assert {len(each) for each in kept} == {2048}

    run(main)


def test_an_outage_while_an_attempt_waits_to_be_confirmed_is_sat_out() -> None:
    async def main() -> None:
        world = World()
        world.start()
        await asyncio.sleep(1)
        await world.publish(view("v1"))
        world.buffer.hold(Log.OUTCOMES, written=True)
        await asyncio.sleep(5)
        world.buffer.outage = True
        world.buffer.release()
        await asyncio.sleep(5)
        assert world.there.ids("views") == []
        world.buffer.outage = False
        await world.until_settled()
        await world.stop()
        assert world.there.ids("views") == ["v1"]

    run(main)


@pytest.mark.logs_errors("were gone before they were read")
def test_records_removed_under_a_running_destination_are_counted_and_passed_over() -> None:
    async def main() -> None:
        world = World()
        world.start()
        await asyncio.sleep(1)
        world.buffer.outage = True
        await asyncio.sleep(2)
        world.buffer.outage = False
        await world.publish(*(view(f"v{n}") for n in range(5)))
        world.buffer.trim(Log.EVENTS, 0, 3)
        await world.until_settled()
        await world.stop()
        assert world.there.ids("views") == ["v3", "v4"]

    run(main)


def test_rubbish_in_the_outcome_log_is_passed_over() -> None:
    async def main() -> None:
        world = World()
        await world.buffer.publish(Log.OUTCOMES, [Draft(0, b"rubbish"), Draft(0, b'{"kind":"x"}')])
        await world.publish(view("v1"))
        world.start()
        await world.until_settled()
        await world.stop()
        assert world.there.ids("views") == ["v1"]

    run(main)


def test_a_successor_that_is_told_to_end_while_it_reads_leaves_everything_as_it_was() -> None:
    async def main() -> None:
        world = World()
        await world.publish(*(view(f"v{n}") for n in range(30)))
        world.start()
        await world.until_settled()
        await world.stop()
        before = world.buffer.committed("there", 0)
        world.start()
        await asyncio.sleep(0)
        await world.stop()
        assert world.buffer.committed("there", 0) == before

    run(main)


def test_recovery_merges_a_snapshot_with_entries_that_overtook_it_in_the_log() -> None:
    recovery = Recovery(10)
    recovery.take(Attempt("there", (10, 11, 12), "views", "", 5))
    recovery.take(
        Answer(
            "there",
            6,
            settled=(Settled(11, Outcome.DELIVERED),),
            postponed=(Postponed(12, Reason.UNAVAILABLE, 99),),
        )
    )
    opens = tuple(Open(offset, attempts=2, first_failed_ms=4) for offset in (10, 11, 12))
    recovery.take(Snapshot("there", 14, 7, opens))
    assert [recovery.is_settled(n) for n in range(9, 15)] == [
        True, False, True, False, True, False,
    ]  # fmt: skip
    assert recovery.high == 14
    assert recovery.memory(10).tried is Tried.IN_DOUBT
    assert recovery.memory(12) == Open(
        12, attempts=2, tried=Tried.FAILED, first_failed_ms=4, next_ms=99
    )
    assert recovery.memory(14) == Open(14)


@dataclass
class Outage(Waits):
    """Is down at first."""

    down: bool = True

    async def send(self, request: Request) -> Reply:
        return Reply((Again(Reason.UNAVAILABLE),)) if self.down else await super().send(request)


def test_the_wait_for_the_lead_does_not_begin_while_the_destination_is_down() -> None:
    async def main() -> None:
        there = Outage()
        world = World(there, concurrency=1)
        await world.publish(sale("s1", "o1", 100), lead("l1", "u1"))
        world.start()
        await asyncio.sleep(4000)
        there.down = False
        await world.until_settled()
        await world.stop()
        assert there.ids("leads") == ["l1", "s1"]

    run(main)


def test_a_successor_counts_no_failure_that_was_not_the_events() -> None:
    recovery = Recovery(0)
    for offset, reason in enumerate((Reason.RATE_LIMITED, Reason.UNKNOWN_CUSTOMER)):
        for time_ms in (5, 6):
            recovery.take(Answer("there", time_ms, postponed=(Postponed(offset, reason, 99),)))
    assert recovery.memory(0) == Open(0, next_ms=99, limited=True)
    waits = Open(1, tried=Tried.FAILED, first_failed_ms=5, waits_since_ms=5, next_ms=99)
    assert recovery.memory(1) == waits
    recovery.take(Snapshot("there", 2, 7, (Open(1, waits_since_ms=4),)))
    assert recovery.memory(1).waits_since_ms == 4


@dataclass
class Falls(There):
    """Down for half an hour; when it falls, one request fails just before another goes through."""

    async def send(self, request: Request) -> Reply:
        taken = len(self.requests)
        self.requests.append([])
        if taken != 1 and asyncio.get_running_loop().time() < 1800:
            return Reply((Again(Reason.UNAVAILABLE),) * len(request.items))
        await asyncio.sleep(0.2)
        return Reply((Done(Outcome.DELIVERED),) * len(request.items))


def test_nothing_is_buried_for_failing_alone_while_the_destination_fails_as_a_whole() -> None:
    async def main() -> None:
        world = World(Falls(), batch_events=1)
        await world.publish(*(view(f"v{n}") for n in range(20)))
        world.start()
        await world.until_settled()
        await world.stop()
        fates = await world.fates()
        assert {each.outcome for each in fates.values()} == {Outcome.DELIVERED}

    run(main)


def test_a_sale_that_waited_lets_its_lead_pass_also_after_a_restart() -> None:
    async def main() -> None:
        world = World(Waits())
        await world.publish(sale("s1", "o1", 100))
        world.start()
        await asyncio.sleep(120)
        await world.kill()
        world.start()
        await asyncio.sleep(60)
        assert world.there.requests == [["s1"], ["s1"]]
        await world.publish(lead("l1", "u1"))
        await world.until_settled(10)
        await world.stop()
        assert world.there.ids("leads") == ["l1", "s1"]

    run(main)


def test_a_sale_whose_lead_passed_in_the_instant_of_a_kill_does_not_wait_on() -> None:
    async def main() -> None:
        world = World(Waits())
        await world.publish(sale("s1", "o1", 100))
        world.start()
        await asyncio.sleep(120)
        await world.kill()
        world.there.received.append(("leads", {"id": "l1", "customerId": "u1"}))
        world.start()
        await world.until_settled(10)
        await world.stop()
        assert world.there.requests == [["s1"], ["s1"]]

    run(main)


def test_a_successor_takes_no_notice_of_a_pause() -> None:
    recovery = Recovery(0)
    recovery.take(Pause("there", "leads", on=True, time_ms=5, endpoint="leads"))
    assert (recovery.high, recovery.memory(0)) == (0, Open(0))


def test_what_is_in_flight_when_its_time_is_over_gets_the_outcome_of_its_answer() -> None:
    async def main() -> None:
        world = World(There(behave=iter(["slow"])), retry_for_seconds=2.0, batch_events=1)
        await world.publish(view("v1"))
        world.start()
        await world.until_settled()
        await world.stop()
        assert {each.outcome for each in (await world.fates()).values()} == {Outcome.DELIVERED}

    run(main)


async def test_ending_tasks_tells_what_any_had_failed_with_unless_it_is_to_be_quiet() -> None:
    def failed() -> asyncio.Future[None]:
        future = asyncio.get_running_loop().create_future()
        future.set_exception(ValueError("a fault"))
        return future

    with pytest.raises(ValueError, match="a fault"):
        await worker._cancel([failed()])
    await worker._cancel([failed()], quiet=True)


async def test_a_task_that_was_cancelled_has_failed_with_nothing() -> None:
    future = asyncio.get_running_loop().create_future()
    future.cancel()
    await worker._first([future])
