"""`gateway dead-letters replay`, as a person runs it: a process of its own, beside the console."""

import asyncio
import sys

import orjson

from tests.chaos.world import World
from tests.gateways import ROOT

WAIT_SECONDS = 30.0
MOST_ASKED_AGAIN = 300


async def replay_refused(world: World, seconds: float = WAIT_SECONDS) -> str:
    """Replay what was refused; say what came of it. After so long the command is killed."""
    told = await _dead_letters(world, seconds, "replay", "--reason", "refused", "--rate", "1000")
    return _summary(told) or "killed"


async def ask_again(world: World) -> None:
    """Replay what was replayed already: nothing may come of it."""
    listed = await _dead_letters(
        world,
        WAIT_SECONDS,
        "list",
        "--state",
        "replayed",
        "--limit",
        str(MOST_ASKED_AGAIN),
        "--json",
    )
    places = [orjson.loads(line)["id"] for line in listed.splitlines() if line.startswith("{")]
    if places:
        told = await _dead_letters(world, WAIT_SECONDS, "replay", *places)
        assert _summary(told) == f"{len(places)} replayed or dropped before", told


def _summary(told: str) -> str:
    return told.strip().rpartition("\n")[2]


async def _dead_letters(world: World, seconds: float, *arguments: str) -> str:
    """Run it; return what it printed, refusals and failures too. Nothing if it was killed."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "dead-letters", *arguments,
        "--console", f"http://127.0.0.1:{world.gateway.console}",
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(seconds):
            out, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return ""
    return out.decode()
