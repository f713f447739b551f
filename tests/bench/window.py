"""What the window of one million keys costs: in memory, and to make it anew after a restart.

Run as a process of its own, it prints one line of JSON.
"""

import asyncio
import gc
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import orjson

from gateway.adapters.destinations.file import FileDestination, FileSettings
from gateway.deliver.judge import Judge
from gateway.model.envelope import encode
from gateway.model.window import Window
from gateway.ports import Record
from tests.bench.usage import usage_of
from tests.sample import NOW_MS, StoppedClock, envelope

KEYS = 1_000_000
PAGE = 10_000
DAY_MS = 86_400_000


async def measure() -> dict[str, float]:
    """Measure it in a process that holds nothing else."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.window", stdout=asyncio.subprocess.PIPE
    )
    out, _ = await process.communicate()
    found: dict[str, float] = orjson.loads(out)
    return found


def _rebuild() -> dict[str, float]:
    """Show a destination's judge the records of its window, as after a restart."""
    settings = FileSettings(kind="file", path=Path("unused"), events=("customer",))
    window = Window(KEYS, DAY_MS)
    destination = FileDestination(settings, StoppedClock())
    judge = Judge("archive", destination, settings, {"shop": frozenset({"archive"})}, window)
    seconds = 0.0
    gc.disable()  # the records made below are the bench's own
    before = usage_of(os.getpid()).resident_mb
    for first in range(0, KEYS, PAGE):
        page = [_record(offset) for offset in range(first, first + PAGE)]
        began = time.perf_counter()
        for record in page:
            judge.see(record)
        seconds += time.perf_counter() - began
        del page
    resident = usage_of(os.getpid()).resident_mb
    return {
        "bytes_a_key": (resident - before) * 1e6 / len(window),
        "rebuild_seconds": seconds,
        "resident_mb": resident,
    }


def _record(offset: int) -> Record:
    made = envelope("page", id=f"0193{offset:032x}")
    made = replace(made, dedup_key=f"event:shop:{made.id}")
    return Record(0, offset, NOW_MS + offset // 100, encode(made))


if __name__ == "__main__":
    print(orjson.dumps(_rebuild()).decode())
