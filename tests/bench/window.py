"""What the window of one million keys costs: in memory, and to make it anew after a restart.

A log is filled; then a destination that begins at its end reads its window, over the embedded log
in a process of its own, until the first event that comes after is on its way. What that process
prints is one line of JSON.
"""

import asyncio
import gc
import os
import sqlite3
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import uvloop

from gateway.adapters.clock import SystemClock
from gateway.adapters.destinations.file import FileDestination, FileSettings
from gateway.adapters.sqlite import SqliteBuffer, SqliteSettings
from gateway.adapters.sqlite.segment import pack
from gateway.deliver.consume import Deliver
from gateway.deliver.worker import House
from gateway.model.attempt import Item, Request
from gateway.model.envelope import encode
from gateway.model.window import DedupSettings
from gateway.ports import Draft, Log
from gateway.wiring.run import COLLECT_AT
from tests.bench.usage import usage_of
from tests.sample import envelope

KEYS = 1_000_000
SEGMENT = 20
"""Records that came in one transaction."""
DEDUP = DedupSettings(window_records=KEYS)
LATEST_SECONDS = 60
NAME = "archive"
CLOCK = SystemClock()


async def measure() -> dict[str, float]:
    """Measure it in a process that holds nothing else."""
    with tempfile.TemporaryDirectory(prefix="gateway-bench-") as folder:
        await _fill(Path(folder))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.bench.window", folder, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
    found: dict[str, float] = orjson.loads(out)
    return found


@asynccontextmanager
async def _buffer(folder: Path) -> AsyncIterator[SqliteBuffer]:
    settings = SqliteSettings(path=folder / "buffer.db")
    buffer = SqliteBuffer(settings, CLOCK, (NAME,), DEDUP)
    await buffer.start()
    try:
        yield buffer
    finally:
        await buffer.stop()


async def _fill(folder: Path) -> None:
    """Write the segments past the buffer: it would make each of them durable, in minutes."""
    async with _buffer(folder):
        pass
    connection = sqlite3.connect(folder / "buffer.db")
    try:
        with connection:
            connection.executemany("INSERT INTO events VALUES (?,?,?,?)", _segments())
    finally:
        connection.close()


def _segments() -> Iterator[tuple[int, int, int, bytes]]:
    began_ms = CLOCK.now_ms() - KEYS // 100
    for first in range(0, KEYS, SEGMENT):
        values = [_value(offset) for offset in range(first, first + SEGMENT)]
        yield first, SEGMENT, began_ms + first // 100, pack(values)


def _value(offset: int) -> bytes:
    made = envelope("page", id=f"0193{offset:032x}")
    return encode(replace(made, dedup_key=f"event:shop:{made.id}"))


class _Watched(FileDestination):
    """Says when the first event has reached it."""

    def __init__(self, settings: FileSettings) -> None:
        super().__init__(settings, CLOCK)
        self.reached = asyncio.Event()

    def request(self, items: Sequence[Item]) -> Request:
        self.reached.set()
        return super().request(items)


async def _rebuild(folder: Path) -> dict[str, float]:
    settings = FileSettings(
        kind="file", path=folder / "archive", start="now", batch_seconds=0, timeout_seconds=1
    )
    async with _buffer(folder) as buffer:
        destination = _Watched(settings)
        house = House(buffer, {"shop": frozenset({NAME})}, CLOCK, DEDUP, 1e9)
        ending = asyncio.Event()
        before = usage_of(os.getpid())
        began = time.perf_counter()
        delivering = asyncio.create_task(Deliver(NAME, destination, settings, house).run(ending))
        try:
            async with asyncio.timeout(LATEST_SECONDS):
                while not await buffer.span(Log.STATE, 0) > (0, 0):
                    await asyncio.sleep(0)  # it has not noted where it begins
                await buffer.publish(Log.EVENTS, [Draft(0, _value(KEYS))])
                await destination.reached.wait()
            seconds = time.perf_counter() - began
            after = usage_of(os.getpid())
        finally:
            ending.set()
            await delivering
    return {
        "bytes_a_key": (after.resident_mb - before.resident_mb) * 1e6 / KEYS,
        "rebuild_seconds": seconds,
        "cpu_seconds": after.cpu_seconds - before.cpu_seconds,
        "resident_mb": after.resident_mb,
    }


if __name__ == "__main__":
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AT)  # as `gateway run` does
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        print(orjson.dumps(loop.run(_rebuild(Path(sys.argv[1])))).decode())
