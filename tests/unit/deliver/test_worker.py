"""Delivery in virtual time: what arrives, and what the outcome log says of it."""

import asyncio
from collections.abc import Iterator
from itertools import repeat

import pytest

from gateway.adapters.memory import MemoryBuffer
from gateway.model import dead
from gateway.model.outcome import Outcome, Reason
from gateway.model.window import DedupSettings
from gateway.ports import Draft, Log
from tests.unit.deliver.world import Behaviour, There, World, cart, lead, view
from tests.virtual import run


def test_events_arrive_in_batches_and_each_has_one_outcome() -> None:
    async def main() -> None:
        world = World()
        await world.publish(*(view(f"v{n}") for n in range(25)))
        world.start()
        await world.until_settled()
        await world.stop()
        assert [len(ids) for ids in world.there.requests] == [10, 10, 5]
        assert world.there.ids("views") == [f"v{n}" for n in range(25)]
        fates = await world.fates()
        assert {fate.outcome for fate in fates.values()} == {Outcome.DELIVERED}

    run(main)


def test_a_copy_is_a_duplicate_and_is_not_sent() -> None:
    async def main() -> None:
        world = World()
        await world.publish(view("v1"), view("v1"))
        world.start()
        await world.until_settled()
        await world.publish(view("v1"))
        await world.until_settled()
        await world.stop()
        assert world.there.ids("views") == ["v1"]
        outcomes = await world.outcomes()
        assert [outcomes[0, n][0].outcome for n in range(3)] == [
            Outcome.DELIVERED,
            Outcome.DUPLICATE,
            Outcome.DUPLICATE,
        ]

    run(main)


def test_a_copy_is_known_after_a_restart() -> None:
    async def main() -> None:
        world = World()
        await world.publish(view("v1"))
        world.start()
        await world.until_settled()
        await world.kill()
        await world.publish(view("v1"))
        world.start()
        await world.until_settled()
        await world.stop()
        assert world.there.ids("views") == ["v1"]

    run(main)


def test_only_the_newest_of_waiting_cart_states_is_sent() -> None:
    async def main() -> None:
        world = World()
        await world.publish(cart("c1", 0), cart("c1", 3000, 3), cart("c1", 1000, 2))
        world.start()
        await world.until_settled()
        await world.stop()
        assert world.there.ids("carts") == ["c1-3000-v1"]
        fates = await world.fates()
        assert fates["c1-0-v1"].reason is Reason.NEWER_CART
        assert fates["c1-1000-v1"].outcome is Outcome.SUPERSEDED

    run(main)


def test_a_cart_that_failed_is_not_sent_once_a_newer_state_was_read() -> None:
    async def main() -> None:
        world = World(There(behave=iter(["busy"])))
        await world.publish(cart("c1", 0))
        world.start()
        await world.until(lambda: len(world.there.requests) == 1)
        await world.publish(cart("c1", 1000, 2))
        await world.until_settled()
        await world.stop()
        assert world.there.ids("carts") == ["c1-1000-v1"]

    run(main)


def test_a_derived_close_is_later_than_all_before_it_and_what_is_older_stays_out() -> None:
    async def main() -> None:
        world = World()
        await world.publish(cart("c1", 5000), cart("c1", 2000, 0, close=True, sender="server"))
        world.start()
        await world.until_settled()
        await world.publish(cart("c1", 4000, sender="v2"))
        await world.until_settled()
        await world.stop()
        assert world.there.carts["c1"]["items"] == []
        assert (await world.fates())["c1-4000-v2"].outcome is Outcome.SUPERSEDED

    run(main)


def test_the_time_sent_of_a_cart_rises_strictly() -> None:
    async def main() -> None:
        world = World()
        world.start()
        for at_ms in (100, 200, 300):
            await world.publish(cart("c1", at_ms))
            await world.until_settled()
        await world.stop()
        times = [body["sent_ms"] for _, body in world.there.received]
        assert [time - times[0] for time in times] == [0, 1000, 2000]

    run(main)


def test_a_sale_of_a_customer_waits_for_the_lead_before_it() -> None:
    async def main() -> None:
        world = World(There(behave=iter(["busy", "ok", "ok"])))
        await world.publish(lead("first", "u1"), lead("second", "u1"), lead("other", "u2"))
        world.start()
        await world.until_settled()
        await world.stop()
        assert world.there.ids("leads") == ["other", "first", "second"]

    run(main)


def test_a_refused_batch_is_split_until_the_bad_event_stands_alone() -> None:
    async def main() -> None:
        world = World(There(poison=frozenset({"v3"})))
        await world.publish(*(view(f"v{n}") for n in range(8)))
        world.start()
        await world.until_settled()
        await world.stop()
        assert sorted(world.there.ids("views")) == [f"v{n}" for n in range(8) if n != 3]
        fates = await world.fates()
        assert (fates["v3"].outcome, fates["v3"].reason) == (Outcome.DEAD, Reason.REFUSED)
        [record] = await world.buffer.read(Log.DEAD, 0, 0, 10)
        letter = dead.decode_letter(record.value)
        assert (letter.destination, letter.reason, letter.offset) == ("there", "refused", 3)
        assert letter.event["event"]["id"] == "v3"
        assert letter.request.startswith('[{"type":"product"')

    run(main)


def test_in_doubt_a_view_is_buried_and_a_cart_sent_again() -> None:
    async def main() -> None:
        world = World(There(behave=iter(["lost-done", "lost-done"])))
        await world.publish(view("v1"), cart("c1", 0))
        world.start()
        await world.until_settled()
        await world.stop()
        assert world.there.ids("views") == ["v1"]
        assert world.there.ids("carts") == ["c1-0-v1", "c1-0-v1"]
        fates = await world.fates()
        assert (fates["v1"].outcome, fates["v1"].reason) == (Outcome.DEAD, Reason.UNKNOWN)

    run(main)


def test_in_doubt_a_view_is_sent_again_where_the_setting_says_so() -> None:
    async def main() -> None:
        world = World(There(behave=iter(["lost-undone"])), on_unknown="repeat")
        await world.publish(view("v1"))
        world.start()
        await world.until_settled()
        await world.stop()
        assert world.there.ids("views") == ["v1"]
        assert (await world.fates())["v1"].outcome is Outcome.DELIVERED

    run(main)


def test_killed_in_flight_a_view_is_in_doubt_and_what_came_after_it_is_not_repeated() -> None:
    async def main() -> None:
        world = World(There(behave=iter(["slow", "ok"])), batch_events=1)
        await world.publish(view("v1"), view("v2"))
        world.start()
        await world.until(lambda: world.there.ids("views") == ["v2"])
        await asyncio.sleep(1)
        await world.kill()
        world.start()
        await world.until_settled()
        await world.stop()
        fates = await world.fates()
        assert fates["v1"].reason is Reason.UNKNOWN
        assert fates["v2"].outcome is Outcome.DELIVERED
        assert world.there.ids("views") == ["v2"]

    run(main)


def test_an_attempt_is_in_the_log_before_the_request_is_made() -> None:
    async def main() -> None:
        world = World()
        seen: list[int] = []
        buffer: MemoryBuffer = world.buffer
        world.there.on_send = lambda _: seen.append(
            sum(b'"kind":"attempt"' in each.value for each in buffer._logs[Log.OUTCOMES][0].records)
        )
        await world.publish(view("v1"))
        world.start()
        await world.until_settled()
        await world.stop()
        assert seen == [1]

    run(main)


def test_nothing_is_committed_before_its_outcome_is_written() -> None:
    async def main() -> None:
        world = World()
        world.there.on_send = lambda _: world.buffer.hold(Log.OUTCOMES)
        await world.publish(view("v1"))
        world.start()
        await asyncio.sleep(30)
        assert world.there.ids("views") == ["v1"]
        position = world.buffer.committed("there", 0)
        assert position is not None
        assert position.offset == 0
        world.there.on_send = None
        world.buffer.release()
        await world.until_settled()
        await world.stop()

    run(main)


def test_a_cart_whose_request_failed_while_a_newer_state_was_read_is_not_sent_again() -> None:
    async def main() -> None:
        world = World(There(behave=iter(["slow-lost"])))
        await world.publish(cart("c1", 0))
        world.start()
        await world.until(lambda: len(world.there.requests) == 1)
        await world.publish(cart("c1", 1000, 2))
        await world.until_settled()
        await world.stop()
        assert world.there.requests == [["c1-0-v1"], ["c1-1000-v1"]]
        assert (await world.fates())["c1-0-v1"].outcome is Outcome.SUPERSEDED

    run(main)


def test_what_came_after_a_slow_retry_is_not_repeated_by_a_successor_that_reads_a_snapshot() -> (
    None
):
    async def main() -> None:
        world = World(batch_events=1)
        world.there.behave = _only_fails(world, "stuck")
        await world.publish(lead("stuck", "u1"), *(view(f"v{n}") for n in range(20)))
        world.start()
        await world.until(lambda: len(world.there.ids("views")) == 20)
        await asyncio.sleep(130)
        await world.kill()
        world.there.behave = iter(())
        world.start()
        await world.until_settled()
        await world.stop()
        assert sorted(world.there.ids("views")) == sorted(f"v{n}" for n in range(20))
        assert world.there.ids("leads") == ["stuck"]

    run(main)


def test_an_owner_that_lost_its_partition_sends_nothing_that_must_not_be_repeated() -> None:
    async def main() -> None:
        world = World()
        world.start()
        await asyncio.sleep(1)
        first = world.there
        world.start()
        await world.publish(view("v1"))
        await asyncio.sleep(0.2)
        world.buffer.take_away("there", 0)
        await world.until_settled()
        assert first.ids("views") == ["v1"]
        await world.stop()

    run(main)


def test_an_event_that_fails_alone_is_buried_after_its_own_time() -> None:
    async def main() -> None:
        world = World(There(behave=repeat("busy")), retry_alone_seconds=900)
        await world.publish(lead("bad", "u1"))
        world.start()
        await asyncio.sleep(3600)
        assert (await world.fates()) == {}
        world.there.behave = _only_fails(world, "bad")
        await world.publish(lead("good", "u2"))
        await world.until_settled()
        await world.stop()
        fates = await world.fates()
        assert fates["bad"].reason is Reason.FAILED_ALONE
        assert fates["good"].outcome is Outcome.DELIVERED

    run(main)


def _only_fails(world: World, name: str) -> Iterator[Behaviour]:
    while True:
        yield "busy" if world.there.requests[-1] == [name] else "ok"


def test_an_event_is_buried_when_its_time_is_over_tried_or_not() -> None:
    async def main() -> None:
        down = There(behave=repeat("unreachable"))
        world = World(down, retry_for_seconds=7200, concurrency=1)
        await world.publish(*(view(f"v{n}") for n in range(30)))
        began = world.clock.now_ms()
        world.start()
        await world.until_settled()
        await world.stop()
        fates = await world.fates()
        assert {fate.reason for fate in fates.values()} == {Reason.EXPIRED}
        assert 7200_000 <= world.clock.now_ms() - began < 7400_000

    run(main)


def test_the_breaker_leaves_a_destination_alone_that_fails_as_a_whole() -> None:
    async def main() -> None:
        world = World(There(behave=repeat("unreachable")))
        await world.publish(*(view(f"v{n}") for n in range(500)))
        world.start()
        await asyncio.sleep(3600)
        assert len(world.there.requests) < 60
        world.there.behave = iter(())
        await world.until_settled()
        await world.stop()
        assert len(world.there.ids("views")) == 500

    run(main)


def test_a_record_that_cannot_be_read_is_buried_and_stops_nobody() -> None:
    async def main() -> None:
        world = World()
        await world.buffer.publish(Log.EVENTS, [Draft(0, b"rubbish")])
        await world.publish(view("v1"))
        world.start()
        await world.until_settled()
        await world.stop()
        outcomes = await world.outcomes()
        assert outcomes[0, 0][0].reason is Reason.UNREADABLE
        assert world.there.ids("views") == ["v1"]

    run(main)


def test_an_outage_of_the_buffer_is_sat_out() -> None:
    async def main() -> None:
        world = World()
        await world.publish(view("v1"))
        world.start()
        await world.until_settled()
        world.buffer.outage = True
        await asyncio.sleep(60)
        world.buffer.outage = False
        await world.publish(view("v2"))
        await world.until_settled()
        await world.stop()
        assert world.there.ids("views") == ["v1", "v2"]

    run(main)


def test_a_destination_begins_at_the_beginning_or_now_and_remembers_where() -> None:
    async def main() -> None:
        world = World(start="now")
        await world.publish(view("before"))
        world.start()
        await world.until_settled()
        await world.publish(view("after"))
        await world.until_settled()
        await world.stop()
        assert world.there.ids("views") == ["after"]
        [record] = await world.buffer.read(Log.STATE, 0, 0, 10)
        assert record.key == b"start/there/0"

    run(main)


def test_without_a_commit_the_place_is_found_in_the_outcome_log() -> None:
    async def main() -> None:
        world = World()
        await world.publish(*(view(f"v{n}") for n in range(20)))
        world.start()
        await world.until_settled()
        await world.kill()
        world.buffer._positions.clear()
        world.start()
        await world.until_settled()
        await world.stop()
        assert len(world.there.ids("views")) == 20

    run(main)


def test_where_the_count_cut_the_window_short_an_old_view_is_in_doubt() -> None:
    async def main() -> None:
        world = World(dedup=DedupSettings(window_records=5))
        await world.publish(view("old"))
        world.start()
        await asyncio.sleep(10)
        await world.publish(*(view(f"v{n}", 10_000) for n in range(10)))
        await world.until_settled()
        await world.publish(view("old"))
        await world.until_settled()
        await world.stop()
        assert world.there.ids("views").count("old") == 1
        assert (await world.fates())["old"].reason is Reason.UNKNOWN

    run(main)


def test_who_is_to_end_finishes_what_is_in_flight_begins_nothing_new_and_commits() -> None:
    async def main() -> None:
        world = World(There(behave=iter(["slow"])), concurrency=1, batch_events=1)
        await world.publish(view("v1"), view("v2"))
        world.start()
        await world.until(lambda: bool(world.there.requests))
        await world.stop()
        assert world.there.ids("views") == ["v1"]
        assert (await world.fates())["v1"].outcome is Outcome.DELIVERED
        assert world.committed_offset() == 1
        world.start()
        await world.until_settled()
        await world.stop()
        assert world.there.ids("views") == ["v1", "v2"]

    run(main)


def test_a_restart_knows_too_that_the_count_cut_the_window_short() -> None:
    async def main() -> None:
        world = World(dedup=DedupSettings(window_records=3))
        await world.publish(*(view(f"v{n}") for n in range(4)))
        world.start()
        await world.until_settled()
        await world.kill()
        world.start()
        await world.publish(view("old", -1000))
        await world.until_settled()
        await world.stop()
        assert (await world.fates())["old"].reason is Reason.UNKNOWN
        assert "old" not in world.there.ids("views")

    run(main)


@pytest.mark.logs_errors("gone before delivery")
def test_records_that_are_gone_are_counted_and_said(caplog) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    async def main() -> None:
        world = World()
        await world.publish(*(view(f"v{n}") for n in range(10)))
        world.start()
        await world.until_settled()
        await world.kill()
        await world.publish(*(view(f"w{n}") for n in range(10)))
        world.buffer.trim(Log.EVENTS, 0, 15)
        world.start()
        await world.until_settled()
        await world.stop()
        assert world.there.ids("views")[10:] == [f"w{n}" for n in range(5, 10)]

    run(main)
    assert "5 records of partition 0 were gone before delivery" in caplog.text
