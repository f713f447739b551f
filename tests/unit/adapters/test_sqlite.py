"""The embedded log within one process; what several processes show is in `tests/system`."""

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from pydantic import ValidationError

from gateway.adapters.sqlite import SqliteBuffer, SqliteSettings
from gateway.adapters.sqlite import buffer as module
from gateway.model.window import DedupSettings
from gateway.ports import (
    Assignment,
    BufferFullError,
    BufferUnavailableError,
    BufferUnusableError,
    Draft,
    Log,
    Position,
    RecordsGoneError,
)

MIB = 1 << 20
HOUR_SECONDS = 3600
DAY_SECONDS = 24 * HOUR_SECONDS
DEADLINE_SECONDS = 10


class HandClock:
    """A clock set by hand."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000

    def now_ms(self) -> int:
        return self.ms

    def go(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


class Bench:
    """Opens buffers over one file."""

    def __init__(self, path: Path, clock: HandClock) -> None:
        self.path = path
        self.clock = clock
        self.max_bytes = 64 * MIB
        self.dedup = DedupSettings(window_records=10, window_seconds=HOUR_SECONDS)

    def make(self, destinations: Sequence[str] = ("hook",)) -> SqliteBuffer:
        settings = SqliteSettings(
            path=self.path, max_bytes=self.max_bytes, retention_seconds=DAY_SECONDS
        )
        return SqliteBuffer(settings, self.clock, destinations, self.dedup)

    @asynccontextmanager
    async def opened(self, destinations: Sequence[str] = ("hook",)) -> AsyncIterator[SqliteBuffer]:
        buffer = self.make(destinations)
        await buffer.start()
        try:
            yield buffer
        finally:
            await buffer.stop()

    def query(self, text: str) -> list[tuple[int, ...]]:
        with closing(sqlite3.connect(self.path)) as connection:
            return connection.execute(text).fetchall()


@pytest.fixture
def bench(tmp_path: Path, clock: HandClock) -> Bench:
    return Bench(tmp_path / "data" / "buffer.db", clock)


async def commit(buffer: SqliteBuffer, destination: str, position: Position) -> None:
    ending = asyncio.Event()

    async def own(assignment: Assignment) -> None:
        await assignment.commit(position)
        ending.set()

    await buffer.consume(destination, own, ending)


async def until_first_is(buffer: SqliteBuffer, log: Log, first: int) -> None:
    async with asyncio.timeout(DEADLINE_SECONDS):
        while (await buffer.span(log, 0)).first != first:
            await asyncio.sleep(0.005)


async def until_room(buffer: SqliteBuffer, window_from: int) -> None:
    """Wait until room is not short any more; never may the window be touched."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while buffer.used_bytes > module.SHORT_SHARE * buffer.max_bytes:
            await asyncio.sleep(0.005)
    assert 0 < (await buffer.span(Log.EVENTS, 0)).first <= window_from


def events(count: int, size: int = 100) -> list[Draft]:
    return [Draft(0, b"x" * size) for _ in range(count)]


# Durable, and together.


async def test_a_publish_does_not_return_before_its_transaction_is_committed(bench: Bench) -> None:
    async with bench.opened() as buffer:
        with closing(sqlite3.connect(bench.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            publish = asyncio.ensure_future(buffer.publish(Log.EVENTS, events(1)))
            done, _ = await asyncio.wait({publish}, timeout=0.3)
            assert not done
            assert (await buffer.span(Log.EVENTS, 0)).next == 0
            other.execute("ROLLBACK")
            assert await publish == [0]


async def test_what_arrives_while_a_write_is_in_flight_shares_the_next(bench: Bench) -> None:
    async with bench.opened() as buffer:
        publishes = [buffer.publish(Log.EVENTS, events(2)) for _ in range(100)]
        offsets = await asyncio.gather(*publishes)
        rows = bench.query("SELECT first, count FROM events ORDER BY first")
    assert [offset for each in offsets for offset in each] == list(range(200))
    assert len(rows) <= 3
    assert sum(count for _, count in rows) == 200


async def test_commits_of_positions_share_a_write_with_publishes(bench: Bench) -> None:
    names = [f"d{number}" for number in range(20)]
    async with bench.opened() as buffer:
        work = [commit(buffer, name, Position(1, 1)) for name in names]
        await asyncio.gather(*work, *(buffer.publish(Log.OUTCOMES, events(1)) for _ in names))
        assert len(bench.query("SELECT * FROM outcomes")) <= 3
        assert len(bench.query("SELECT * FROM positions")) == 20


async def test_a_write_that_fails_is_not_acknowledged_and_the_next_one_works(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.adapters.sqlite.store.BUSY_SECONDS", 0.05)
    async with bench.opened() as buffer:
        with closing(sqlite3.connect(bench.path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(BufferUnavailableError, match="locked"):
                await buffer.publish(Log.EVENTS, events(1))
            with pytest.raises(BufferUnavailableError, match="locked"):
                await commit(buffer, "hook", Position(1, 1))
            other.execute("ROLLBACK")
        assert await buffer.publish(Log.EVENTS, events(2)) == [0, 1]
        assert len(await buffer.read(Log.EVENTS, 0, 0, 9)) == 2


async def test_what_was_published_before_stop_is_written(bench: Bench) -> None:
    async with bench.opened() as buffer:
        publish = asyncio.ensure_future(buffer.publish(Log.EVENTS, events(3)))
        await asyncio.sleep(0)
    assert await publish == [0, 1, 2]
    with pytest.raises(BufferUnavailableError, match="not open"):
        await buffer.publish(Log.EVENTS, events(1))


async def test_more_waiting_for_a_slow_disk_than_memory_should_hold_is_refused(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAITING_BYTES", 1000)
    async with bench.opened() as buffer:
        publishes = [buffer.publish(Log.EVENTS, events(1, 600)) for _ in range(5)]
        results = await asyncio.gather(*publishes, return_exceptions=True)
    assert results[:2] == [[0], [1]]
    assert all(isinstance(each, BufferUnavailableError) for each in results[2:])


async def test_another_partition_is_a_mistake_of_the_caller(bench: Bench) -> None:
    async with bench.opened() as buffer:
        with pytest.raises(ValueError, match="one partition"):
            await buffer.publish(Log.EVENTS, [Draft(0, b""), Draft(1, b"")])
        with pytest.raises(ValueError, match="one partition"):
            await buffer.read(Log.EVENTS, 1, 0, 1)


# Time.


async def test_the_logs_clock_never_goes_back_not_even_over_a_restart(
    bench: Bench, clock: HandClock
) -> None:
    async with bench.opened() as buffer:
        await buffer.publish(Log.EVENTS, events(1))
        began_ms = clock.ms
        clock.go(-HOUR_SECONDS)
        await buffer.publish(Log.EVENTS, events(1))
    async with bench.opened() as buffer:
        await buffer.publish(Log.OUTCOMES, events(1))
        await buffer.publish(Log.EVENTS, events(1))
        clock.go(2 * HOUR_SECONDS)
        await buffer.publish(Log.EVENTS, events(1))
        (outcome,) = await buffer.read(Log.OUTCOMES, 0, 0, 1)
        times = [record.time_ms - began_ms for record in await buffer.read(Log.EVENTS, 0, 0, 9)]
    assert times == [0, 0, 0, HOUR_SECONDS * 1000]
    assert outcome.time_ms == began_ms


# Room, and what goes.


async def fill(buffer: SqliteBuffer, log: Log = Log.EVENTS) -> int:
    """Publish until it is full; return how many records were taken."""
    taken = 0
    try:
        while True:
            taken += len(await buffer.publish(log, events(10, 5000)))
    except BufferFullError as full:
        assert "max_bytes" in str(full)  # noqa: PT017 - every call may raise it
    return taken


async def test_a_full_log_refuses_events_and_lets_delivery_go_on(bench: Bench) -> None:
    bench.max_bytes = 2 * MIB
    async with bench.opened() as buffer:
        taken = await fill(buffer)
        assert buffer.used_bytes <= buffer.max_bytes
        assert (await buffer.span(Log.EVENTS, 0)) == (0, taken)
        await buffer.publish(Log.OUTCOMES, events(10, 5000))
        await buffer.publish(Log.DEAD, events(1, 5000))
        await buffer.publish(Log.STATE, events(1))
        await commit(buffer, "hook", Position(taken, 10))
        await until_room(buffer, taken - 10)
        assert len(await buffer.publish(Log.EVENTS, events(10, 5000))) == 10


async def test_room_that_only_an_unconfigured_destination_pins_is_given_free(bench: Bench) -> None:
    bench.max_bytes = 2 * MIB
    async with bench.opened(["old", "hook"]) as buffer:
        await commit(buffer, "old", Position(0, 0))
        taken = await fill(buffer)
        await commit(buffer, "hook", Position(taken, 0))
        await asyncio.sleep(2 * module.REMOVE_WHEN_SHORT_SECONDS)
        assert (await buffer.span(Log.EVENTS, 0)).first == 0
    async with bench.opened(["hook"]) as buffer:
        await until_room(buffer, taken - 10)


async def test_outcomes_too_are_refused_when_the_reserve_is_used_up(bench: Bench) -> None:
    bench.max_bytes = 2 * MIB
    async with bench.opened() as buffer:
        await fill(buffer, Log.OUTCOMES)
        assert buffer.max_bytes < buffer.used_bytes <= buffer.max_bytes * 1.25
        await commit(buffer, "hook", Position(0, 0))


async def test_the_file_does_not_grow_while_removed_room_is_used_again(bench: Bench) -> None:
    bench.max_bytes = 2 * MIB
    async with bench.opened() as buffer:
        taken = await fill(buffer)
        for _ in range(4):
            await commit(buffer, "hook", Position(taken, 0))
            await until_room(buffer, taken - 10)
            taken += await fill(buffer)
    assert bench.path.stat().st_size < 3 * MIB


async def test_old_records_go_when_every_destination_has_left_them_a_window_behind(
    bench: Bench, clock: HandClock
) -> None:
    async with bench.opened(["hook", "archive"]) as buffer:
        for _ in range(50):
            await buffer.publish(Log.EVENTS, events(1))
        await buffer.publish(Log.OUTCOMES, events(1))
        await commit(buffer, "hook", Position(50, 1))
        await commit(buffer, "archive", Position(30, 1))
        clock.go(2 * DAY_SECONDS)
    async with bench.opened(["hook", "archive"]) as buffer:
        await until_first_is(buffer, Log.EVENTS, 19)
        assert await buffer.span(Log.OUTCOMES, 0) == (0, 1)
        with pytest.raises(RecordsGoneError) as gone:
            await buffer.read(Log.EVENTS, 0, 18, 1)
        assert gone.value.first == 19
        assert len(await buffer.read(Log.EVENTS, 0, 19, 99)) == 31


async def test_what_is_removed_is_erased_from_the_file(bench: Bench, clock: HandClock) -> None:
    secret = b"anna@example.com"
    async with bench.opened() as buffer:
        for number in range(30):
            await buffer.publish(Log.EVENTS, [Draft(0, b"%s %d" % (secret, number) * 200)])
        await commit(buffer, "hook", Position(30, 0))
    assert secret in await asyncio.to_thread(bench.path.read_bytes)
    clock.go(2 * DAY_SECONDS)
    async with bench.opened() as buffer:
        await until_first_is(buffer, Log.EVENTS, 30)
    assert secret not in await asyncio.to_thread(bench.path.read_bytes)


async def test_an_emptied_log_goes_on_at_its_next_offset(bench: Bench, clock: HandClock) -> None:
    async with bench.opened() as buffer:
        await buffer.publish(Log.EVENTS, events(3))
        await buffer.publish(Log.OUTCOMES, events(2))
        await buffer.publish(Log.DEAD, events(4))
        await commit(buffer, "hook", Position(3, 2))
        clock.go(31 * DAY_SECONDS)
    for _ in range(2):
        async with bench.opened() as buffer:
            await until_first_is(buffer, Log.EVENTS, 3)
            await until_first_is(buffer, Log.OUTCOMES, 2)
            await until_first_is(buffer, Log.DEAD, 4)
            assert await buffer.read(Log.DEAD, 0, 4, 9) == []
            assert await buffer.offset_at(Log.DEAD, 0, 0) == 4
    async with bench.opened() as buffer:
        assert await buffer.publish(Log.DEAD, events(1)) == [4]
        assert await buffer.span(Log.DEAD, 0) == (4, 5)
        assert await buffer.publish(Log.EVENTS, events(1)) == [3]
        assert len(await buffer.read(Log.EVENTS, 0, 3, 9)) == 1
    assert bench.query("SELECT first, count FROM dead") == [(4, 1)]


async def test_dead_letters_outlive_the_retention_of_events(bench: Bench, clock: HandClock) -> None:
    async with bench.opened() as buffer:
        await buffer.publish(Log.DEAD, events(1))
        await buffer.publish(Log.OUTCOMES, events(1))
        await commit(buffer, "hook", Position(0, 1))
        clock.go(29 * DAY_SECONDS)
    async with bench.opened() as buffer:
        await until_first_is(buffer, Log.OUTCOMES, 1)
        assert await buffer.span(Log.DEAD, 0) == (0, 1)


# Opening.


async def test_a_second_gateway_waits_says_so_once_and_takes_over(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway.buffer")
    second = bench.make()
    async with bench.opened() as first:
        await first.publish(Log.EVENTS, events(1))
        start = asyncio.ensure_future(second.start())
        done, _ = await asyncio.wait({start}, timeout=0.5)
        assert not done
        with pytest.raises(BufferUnavailableError, match="not open"):
            await second.publish(Log.EVENTS, events(1))
    await start
    assert await second.publish(Log.EVENTS, events(1)) == [1]
    await second.stop()
    lines = [record.getMessage() for record in caplog.records if record.name == "gateway.buffer"]
    assert len(lines) == 1
    assert str(bench.path) in lines[0]
    assert lines[0].endswith("waiting for it to stop")


async def test_a_log_named_by_a_link_has_the_same_owner(bench: Bench) -> None:
    async with bench.opened() as buffer:
        await buffer.publish(Log.EVENTS, events(1))
        link = bench.path.with_name("link.db")
        await asyncio.to_thread(link.symlink_to, bench.path)
        waiting = asyncio.ensure_future(Bench(link, bench.clock).make().start())
        done, _ = await asyncio.wait({waiting}, timeout=0.5)
        assert not done
        waiting.cancel()
        await asyncio.wait({waiting})


async def test_who_stops_waiting_for_the_lock_does_not_get_it(bench: Bench) -> None:
    async with bench.opened():
        start = asyncio.ensure_future(bench.make().start())
        await asyncio.wait({start}, timeout=0.1)
        start.cancel()
        with pytest.raises(asyncio.CancelledError):
            await start
    async with asyncio.timeout(DEADLINE_SECONDS), bench.opened() as third:
        assert await third.publish(Log.EVENTS, events(1)) == [0]


async def _refusal(bench: Bench) -> str:
    with pytest.raises(BufferUnusableError) as refused:
        await bench.make().start()
    assert "\n" not in str(refused.value)
    assert str(bench.path) in str(refused.value)
    return str(refused.value)


async def test_a_file_that_is_no_database_is_refused_and_left_alone(bench: Bench) -> None:
    bench.path.parent.mkdir()
    bench.path.write_bytes(b"my shopping list, and more of it" * 100)
    assert "no SQLite database" in await _refusal(bench)
    assert bench.path.read_bytes().startswith(b"my shopping list")


async def test_another_programs_database_is_refused(bench: Bench) -> None:
    bench.path.parent.mkdir()
    bench.query("CREATE TABLE books (title)")
    assert "another program" in await _refusal(bench)


async def test_another_format_is_refused_and_a_refusal_lets_go_of_the_lock(bench: Bench) -> None:
    async with bench.opened():
        pass
    bench.query("PRAGMA user_version = 9")
    assert "format 9" in await _refusal(bench)
    bench.query("PRAGMA user_version = 1")
    async with asyncio.timeout(DEADLINE_SECONDS), bench.opened():
        pass


async def test_an_empty_file_becomes_a_log(bench: Bench) -> None:
    bench.path.parent.mkdir()
    bench.path.touch()
    async with bench.opened() as buffer:
        assert await buffer.publish(Log.EVENTS, events(1)) == [0]


async def test_a_folder_that_cannot_be_made_is_named(bench: Bench) -> None:
    bench.path.parent.write_text("in the way")
    with pytest.raises(BufferUnavailableError, match="cannot lock"):
        await bench.make().start()


async def test_a_damaged_segment_is_an_error_and_not_a_wrong_record(bench: Bench) -> None:
    async with bench.opened() as buffer:
        await buffer.publish(Log.EVENTS, events(2))
    bench.path.with_name("buffer.db-wal").unlink(missing_ok=True)
    with closing(sqlite3.connect(bench.path)) as connection, connection:
        connection.execute("UPDATE events SET data = substr(data, 1, 50)")
    async with bench.opened() as buffer:
        with pytest.raises(BufferUnavailableError, match="segment"):
            await buffer.read(Log.EVENTS, 0, 0, 9)


def test_a_bound_too_small_to_work_with_is_refused() -> None:
    with pytest.raises(ValidationError):
        SqliteSettings(max_bytes=1000)
