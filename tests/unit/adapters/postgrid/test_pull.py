"""Polling: what no webhook brought is found, once, whatever ends a round and wherever."""

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.adapters.postgrid.errors import PostGridError
from gateway.model.instant import format_ms
from gateway.ports import BufferUnavailableError, Hook, Log
from tests.mailhouse import order, visit
from tests.unit.adapters.postgrid.test_source import DAY_MS, Office, ids, statuses
from tests.virtual import START_MS, run


def fill(office: Office, visits: int, orders: int = 1) -> None:
    for number in range(orders):
        name = f"letter_{number}"
        office.house.orders[name] = order(name, "printing", START_MS + number)
    listed = office.house.visits["tracker_1"]
    for number in range(len(listed), len(listed) + visits):
        listed.append(visit(number, f"letter_{number % orders}", START_MS + 1000 * number))


@pytest.mark.parametrize("newest_first", [True, False])
def test_visits_and_orders_are_found_once_over_many_rounds(*, newest_first: bool) -> None:
    async def main() -> None:
        office = Office()
        office.house.newest_first = newest_first
        fill(office, 250, 3)
        await office.puller.poll()
        await office.puller.poll()
        fill(office, 130, 3)
        office.begin()
        await office.puller.poll()
        assert len(await office.written()) == 383
        assert len(set(ids(await office.written()))) == 383

    run(main)


def test_an_idle_tracker_is_not_read_and_pages_are_of_a_hundred() -> None:
    async def main() -> None:
        office = Office()
        fill(office, 120)
        await office.puller.poll()
        assert office.house.asked.count("trackers/tracker_1/visits") == 2
        assert office.house.asked.count("letters/letter_0") == 1
        office.house.asked.clear()
        office.begin()
        await office.puller.poll()
        assert "trackers/tracker_1/visits" not in office.house.asked

    run(main)


def test_a_new_round_reads_no_further_than_what_is_known() -> None:
    async def main() -> None:
        office = Office()
        fill(office, 950)
        await office.puller.poll()
        fill(office, 1)
        office.house.asked.clear()
        await office.puller.poll()
        assert office.house.asked.count("trackers/tracker_1/visits") <= 3
        assert len(await office.written()) == 952

    run(main)


def test_two_gateways_that_poll_one_account_at_once_count_everything_once() -> None:
    """One replica polls; should there be two for a while, their copies are told by the window."""

    async def main() -> None:
        office = Office(partitions=2)
        for round_ in range(3):
            fill(office, 70, 3)
            for name in office.house.orders:
                status = ("printing", "processed_for_delivery", "completed")[round_]
                office.house.orders[name] = order(name, status, START_MS + round_)
            first = office.puller
            office.begin()
            await asyncio.gather(first.poll(), office.puller.poll())
        counted = await office.counted()
        assert len(await office.written()) > len(counted) == 3 * 70 + 3 * 3
        assert len({each["id"] for each in counted}) == len(counted)

    run(main)


def test_polling_keeps_to_its_own_rate() -> None:
    async def main() -> None:
        office = Office(rate_per_second=2)
        fill(office, 950)
        begun = asyncio.get_running_loop().time()
        await office.puller.poll()
        took_seconds = asyncio.get_running_loop().time() - begun
        assert len(office.house.asked) <= 2 * (took_seconds + 2)
        assert took_seconds > 5

    run(main)


def test_a_row_that_makes_no_sense_is_left_out_and_the_rest_is_found() -> None:
    async def main() -> None:
        office = Office()
        fill(office, 3)
        rubbish: Any
        for number, rubbish in enumerate((None, True, "x" * 200, {"a": 1}, [])):
            odd = {**visit(100 + number, "letter_0", START_MS), "orderID": rubbish}
            office.house.visits["tracker_1"].append(odd)
            name = f"letter_odd{number}"
            office.house.orders[name] = {
                "id": name,
                **dict.fromkeys(("status", "metadata", "createdAt", "updatedAt"), rubbish),
            }
            office.house.events.append(
                {"id": f"event_{number}", "type": "letter.updated", "data": rubbish}
            )
        await office.puller.poll()
        found = ids(await office.written())
        assert {f"tracker_visit_{number}" for number in range(3)} <= set(found)
        assert len([each for each in found if each.startswith("letter_odd")]) == 5
        assert not any("_10" in each for each in found)

    run(main)


def test_only_the_trackers_that_are_set_are_polled() -> None:
    async def main() -> None:
        office = Office(trackers=("tracker_1", "tracker_gone"))
        fill(office, 1)
        office.house.visits["tracker_2"] = [visit(99, "letter_0", START_MS, "tracker_2")]
        await office.puller.poll()
        visits = [each for each in await office.written() if each["type"] == "mail_visit"]
        assert ids(visits) == ["tracker_visit_0"]

    run(main)


def test_visits_that_come_while_their_listing_is_read_are_neither_lost_nor_doubled() -> None:
    async def main() -> None:
        office = Office()
        fill(office, 300)
        arrivals = iter(range(20))

        def one_more(path: str) -> None:
            if path.endswith("/visits") and next(arrivals, None) is not None:
                fill(office, 3)

        office.house.before = one_more
        await office.puller.poll()
        await office.puller.poll()
        office.house.before = lambda _path: None
        await office.puller.poll()
        seen = [each for each in ids(await office.written()) if each.startswith("tracker_visit")]
        assert len(seen) == len(set(seen)) == len(office.house.visits["tracker_1"])

    run(main)


def test_what_a_webhook_brought_is_not_brought_again_though_the_window_is_long_past() -> None:
    async def main() -> None:
        office = Office()
        fill(office, 2)
        await office.hook("tracker.visited", office.house.visits["tracker_1"][1])
        await office.hook("letter.updated", office.house.orders["letter_0"])
        await asyncio.sleep(3 * 86_400)
        office.begin()
        await office.puller.poll()
        written = await office.written()
        assert len(written) == 3
        assert len(set(ids(written))) == 3
        assert office.source.memory.visits == {}
        await asyncio.sleep(3 * 86_400)
        fill(office, 1)
        office.begin()
        await office.puller.poll()
        assert len(set(ids(await office.written()))) == len(await office.written()) == 4

    run(main)


def test_a_webhook_for_a_visit_that_was_polled_is_known_on_every_replica() -> None:
    """PostGrid's retries come hours later, when the window may have passed it by."""

    async def main() -> None:
        office = Office()
        fill(office, 2)
        await office.puller.poll()
        office.begin()
        for raw in office.house.visits["tracker_1"]:
            assert await office.hook("tracker.visited", raw) is Hook.KNOWN
        late = visit(9, "letter_0", START_MS + 5_000)
        assert await office.hook("tracker.visited", late) is Hook.TAKEN
        assert len(await office.written()) == 4

    run(main)


def test_a_visit_waits_for_its_order_and_after_a_day_goes_without() -> None:
    async def main() -> None:
        office = Office()
        fill(office, 1)
        fill(office, 1, 2)
        office.house.down = lambda path: path == "letters/letter_0"
        await office.puller.poll()
        found = [each for each in await office.written() if each["type"] == "mail_visit"]
        assert ids(found) == ["tracker_visit_1"]
        office.house.down = lambda _path: False
        await office.puller.poll()
        visits = [each for each in await office.written() if each["type"] == "mail_visit"]
        assert ids(visits) == ["tracker_visit_0", "tracker_visit_1"]
        assert all(each["customerId"] == "u-1" for each in visits)
        office.house.visits["tracker_1"].append(visit(2, "postcard_7", START_MS + 5000))
        office.house.down = lambda path: path == "postcards/postcard_7"
        await office.puller.poll()
        assert len(await office.written()) == 4
        await asyncio.sleep(86_500)
        await office.puller.poll()
        [late] = [each for each in await office.written() if each["id"] == "tracker_visit_2"]
        assert "customerId" not in late

    run(main)


def test_the_listing_of_events_tells_states_that_passed_while_nobody_listened() -> None:
    async def main() -> None:
        office = Office(partitions=1)
        name = "letter_1"
        for at, status in enumerate(("ready", "printing", "completed")):
            raw = order(name, status, START_MS + at)
            office.house.orders[name] = raw
            office.house.events.append(happened(at, "letter.updated", raw))
        office.house.events.append(happened(9, "letter.updated", None))
        await office.puller.poll()
        await office.puller.poll()
        assert statuses(await office.written()) == ["ready", "printing", "completed"]

    run(main)


def happened(number: int, kind: str, data: dict[str, Any] | None) -> dict[str, Any]:
    at = format_ms(START_MS + number)
    return {"id": f"event_{number}", "object": "event", "type": kind, "data": data, "createdAt": at}


def test_orders_on_which_nothing_more_is_expected_are_not_listed_to_the_end() -> None:
    async def main() -> None:
        office = Office()
        for number in range(1000):
            name = f"letter_{number}"
            old = START_MS - (1000 - number) * DAY_MS // 2
            office.house.orders[name] = order(name, "completed", old)
        await office.puller.poll()
        assert office.house.asked.count("letters") < 5
        assert 100 < len(await office.written()) < 130

    run(main)


def test_an_order_that_is_long_over_is_forgotten_in_the_state_log() -> None:
    async def main() -> None:
        office = Office(partitions=1)
        await office.hook("letter.updated", order("letter_1", "completed", START_MS))
        await asyncio.sleep(91 * 86_400)
        await office.puller.poll()
        assert await office.buffer.read(Log.STATE, 0, 0, 10) == []

    run(main)


def test_a_round_that_fails_is_made_again_and_ends_when_it_is_told_to() -> None:
    async def main() -> None:
        office = Office()
        fill(office, 3)
        office.house.down = lambda _path: True
        ending = asyncio.Event()
        running = asyncio.create_task(office.puller.run(ending))
        await asyncio.sleep(100)
        assert await office.written() == []
        office.house.down = lambda _path: False
        await asyncio.sleep(600)
        assert len(await office.written()) == 4
        ending.set()
        await running

    run(main)


def test_visits_that_are_only_announced_are_found_in_one_round_soon_after() -> None:
    async def main() -> None:
        office = Office(poll_seconds=3600)
        ending = asyncio.Event()
        running = asyncio.create_task(office.puller.run(ending))
        await asyncio.sleep(10)
        office.house.asked.clear()
        for _ in range(3):
            fill(office, 1)
            assert await office.hook("tracker.visited", {"id": "tracker_1"}) is Hook.UNUSED
            await asyncio.sleep(1)
        await asyncio.sleep(10)
        assert office.house.asked.count("events") == 1
        assert len([each for each in await office.written() if each["type"] == "mail_visit"]) == 3
        ending.set()
        await running
        unpolled = Office(poll_seconds=0)
        assert await unpolled.hook("tracker.visited", {"id": "tracker_1"}) is Hook.UNREADABLE

    run(main)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_wherever_polling_is_killed_nothing_is_lost_and_nothing_counts_twice(
    data: st.DataObject,
) -> None:
    """Kill it before any answer or write, written or not, with webhooks coming in between."""

    async def main() -> None:
        office = Office(partitions=2)
        newest_first: bool = data.draw(st.booleans())
        office.house.newest_first = newest_first
        for _ in range(data.draw(st.integers(1, 4))):
            fill(office, data.draw(st.integers(0, 130)), 3)
            if data.draw(st.booleans()):
                raw = order("letter_0", "completed", START_MS + 10_000)
                office.house.orders["letter_0"] = raw
                assert await office.hook("letter.updated", raw) in {Hook.TAKEN, Hook.KNOWN}
            hooked: bool = data.draw(st.booleans())
            if hooked and office.house.visits["tracker_1"]:
                await office.hook("tracker.visited", office.house.visits["tracker_1"][-1])
            await die(office, data)
            office.begin()
        await office.puller.poll()
        await office.puller.poll()
        counted = ids(await office.counted())
        assert len(counted) == len(set(counted))
        found = {each for each in counted if each.startswith("tracker_visit")}
        assert found == {each["id"] for each in office.house.visits["tracker_1"]}
        seen = {each["orderId"] for each in await office.counted() if each["type"] == "mail_order"}
        assert seen == set(office.house.orders)

    run(main)


async def die(office: Office, data: st.DataObject) -> None:
    """Let a round meet its end somewhere."""
    answers: int = data.draw(st.integers(0, 12))
    office.house.down = lambda _path: len(office.house.asked) >= until
    until = len(office.house.asked) + answers
    log: Log | None = data.draw(st.sampled_from([Log.EVENTS, Log.STATE, None]))
    if log:
        office.buffer.fail_next(log, written=data.draw(st.booleans()))
    with suppress(PostGridError, BufferUnavailableError):
        await office.puller.poll()
    office.buffer.release()
    office.house.down = lambda _path: False
