"""Kills a process that writes and compresses files before each single step it takes in its folder.

`python -m tests.killed_file FOLDER` leaves in FOLDER a folder for each step, as the kill before
that step left it, with the ids that were acknowledged until then in `acknowledged`.
"""

import asyncio
import os
import signal
import sys
from itertools import count
from pathlib import Path

from gateway.adapters.destinations.file import FileDestination, FileSettings
from gateway.model.attempt import Done, Item
from tests.sample import NOW_MS, StoppedClock, envelope

STEPS = {"open", "os.rename", "os.remove"}


def kill_before(step: int, folder: Path) -> None:
    """Kill this process when it is about to take that step, counted from 1, below the folder."""
    taken = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal taken
        if event in STEPS and str(arguments[0]).startswith(str(folder)):
            taken += 1
            if taken == step:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(watch)


async def write(folder: Path, acknowledged: int) -> None:
    """Write two files of an event each, the first of which is full, and wait until it is packed."""
    chosen = {"kind": "file", "path": folder, "gzip": True, "rotate_bytes": 1}
    destination = FileDestination(FileSettings.model_validate(chosen), StoppedClock())
    await destination.start()
    for each in ("a", "b"):
        item = destination.prepare(envelope("page", id=each), NOW_MS)
        assert isinstance(item, Item)
        reply = await destination.send(destination.request([item]))
        assert isinstance(reply.verdicts[0], Done)
        os.write(acknowledged, each.encode())
    while not any(name.endswith(".ndjson.gz") for name in os.listdir(folder)):  # noqa: PTH208 - ASYNC240 wants no Path here
        await asyncio.sleep(0.001)
    await destination.stop()


def main(root: Path) -> None:
    """Do so for each step, until a run ends without having been killed."""
    for step in count(1):
        here = root / f"{step:03}"
        here.mkdir()
        child = os.fork()  # before any thread is started
        if child == 0:
            acknowledged = os.open(here / "acknowledged", os.O_WRONLY | os.O_CREAT)
            kill_before(step, here / "out")
            asyncio.run(write(here / "out", acknowledged))
            os._exit(0)
        if os.waitpid(child, 0)[1] == 0:
            return


if __name__ == "__main__":
    main(Path(sys.argv[1]))
