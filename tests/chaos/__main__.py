"""`make chaos`: seed after seed on each buffer, with the account of each.

A seed that failed is tried again by `make chaos OPTIONS="--buffer kafka --seed 7"`: the load and
the faults are the same, though not what they meet.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.brokers import Broker
from tests.chaos.run import run
from tests.conftest import program


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - what the command is for


def main() -> int:
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--buffer", choices=("sqlite", "kafka"), action="append")
    parser.add_argument("--seed", type=int, help="the first one; drawn if not given")
    parser.add_argument("--seeds", type=int, default=1, help="how many, one after another")
    parser.add_argument("--events", type=int, default=8000)
    given = parser.parse_args()
    first = random.randrange(1 << 30) if given.seed is None else given.seed
    failed = []
    with tempfile.TemporaryDirectory(prefix="gateway-chaos-") as folder:
        for kind in given.buffer or ("sqlite", "kafka"):
            broker = Broker(Path(folder) / "broker", program) if kind == "kafka" else None
            if broker is not None:
                broker.start()
            try:
                failed += [
                    f"{kind} {seed}"
                    for seed in range(first, first + given.seeds)
                    if not _try(Path(folder), kind, seed, given.events, broker)
                ]
            finally:
                if broker is not None:
                    broker.stop()
    say(f"failed: {', '.join(failed)}" if failed else "every account holds")
    return bool(failed)


def _try(folder: Path, kind: str, seed: int, events: int, broker: Broker | None) -> bool:
    home = folder / f"{kind}-{seed}"
    home.mkdir()
    began = time.monotonic()
    say(f"{kind}, seed {seed}")
    try:
        asyncio.run(run(home, seed, events, broker, say))
    except (AssertionError, TimeoutError) as error:
        say(f"  FAILED: {str(error) or type(error).__name__}")
        kept = Path(tempfile.mkdtemp(prefix=f"gateway-chaos-{kind}-{seed}-"))
        (home / "gateway.log").replace(kept / "gateway.log")
        say(f"  its log: {kept / 'gateway.log'}")
        return False
    say(f"  {time.monotonic() - began:.0f} s")
    return True


if __name__ == "__main__":
    sys.exit(main())
