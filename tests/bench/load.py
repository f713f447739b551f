"""Load by wrk: a closed loop over 64 connections, from a process of its own."""

import asyncio
import shutil
import time
from itertools import count
from pathlib import Path

import orjson

INSTALL = "wrk is missing: sudo apt-get install -y --no-install-recommends wrk"
CONNECTIONS = 64
_SCRIPT = Path(__file__).with_name("load.lua")
_runs = count(int(time.monotonic() * 1000))


def has_wrk() -> bool:
    return shutil.which("wrk") is not None


async def load(url: str, events: int, seconds: int, pause_ms: int = 0) -> dict[str, float]:
    """Post so many events a request; return what load.lua writes at the end.

    `pause_ms`: of each connection between two requests, on average.
    """
    process = await asyncio.create_subprocess_exec(
        "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(_SCRIPT), url,
        "--", str(events), str(next(_runs) % 0xFFFF), str(pause_ms),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"wrk failed:\n{out.decode()}")
    result: dict[str, float] = orjson.loads(out.splitlines()[-1])
    return result
