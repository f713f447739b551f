"""What the gateway costs, in one run: `make bench`, or `python -m tests.bench --help`.

The cases are measured in turn, several rounds of them, each in a process started anew; the table
has medians. Client and gateway share the machine's cores, so trust ratios and CPU time per event
more than rates.
"""

import argparse
import asyncio
import logging
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.bench.drain import ANSWER_SECONDS, CARTS, drain
from tests.bench.isolation import EVENTS as EVENTS_BESIDE
from tests.bench.isolation import isolation
from tests.bench.load import CONNECTIONS, INSTALL, has_wrk, load
from tests.bench.subjects import Case, cases
from tests.bench.usage import usage_of
from tests.bench.window import KEYS, measure
from tests.brokers import Broker

EVENTS = (1, 20)


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement."""

    requests_per_second: float
    cpu_us: float
    """Per event, while the load ran."""
    cpu_us_in_all: float
    """Per event, until all was delivered and in the console's index."""
    p50_ms: float
    p99_ms: float
    resident_mb: float


async def sample(case: Case, events: int, seconds: int) -> Sample:
    """Measure a case once, with so many events a request."""
    async with case.start() as subject:
        await load(subject.url, events, 1)
        await subject.until_done()
        before = usage_of(subject.pid)
        found = await load(subject.url, events, seconds)
        during = usage_of(subject.pid)
        await subject.until_done()
        after = usage_of(subject.pid)
    if found["failed"]:
        raise RuntimeError(f"{case.name}: {found['failed']} requests failed")
    count = found["requests"] * events
    return Sample(
        found["requests"] / found["seconds"],
        (during.cpu_seconds - before.cpu_seconds) * 1e6 / count,
        (after.cpu_seconds - before.cpu_seconds) * 1e6 / count,
        found["p50_ms"],
        found["p99_ms"],
        during.resident_mb,
    )


def _line(name: str, events: int, samples: Sequence[Sample], bare: float) -> str:
    rate = median(each.requests_per_second for each in samples)
    return (
        f"{name:<26} {events:>3}  {rate:>7,.0f}  {rate * events:>8,.0f}"
        f"  {median(each.cpu_us for each in samples):>7.1f}"
        f"  {median(each.cpu_us_in_all for each in samples):>7.1f}"
        f"  {median(each.p50_ms for each in samples):>6.1f}"
        f"  {median(each.p99_ms for each in samples):>6.1f}"
        f"  {median(each.resident_mb for each in samples):>5.0f}  {rate / bare:>5.2f}"
    )


async def _table(cases: Sequence[Case], rounds: int, seconds: int) -> None:
    samples: dict[tuple[str, int], list[Sample]] = defaultdict(list)
    for number in range(rounds):
        for case in cases:
            for events in EVENTS:
                _progress(f"round {number + 1}: {case.name}, {events}")
                samples[case.name, events].append(await sample(case, events, seconds))
    _progress("")
    print(
        f"{CONNECTIONS} connections; an event is about 350 bytes; CPU in µs per event: while the"
        " load ran,\nand in all, until everything was delivered and in the console's index;"
        " ratio of requests/s\nto bare aiohttp with as many events a request\n"
    )
    print(f"{'':<26}  ev   req/s   events/s      CPU   in all  p50 ms  p99 ms     MB  ratio")
    for events in EVENTS:
        bare = median(each.requests_per_second for each in samples[cases[0].name, events])
        for case in cases:
            print(_line(case.name, events, samples[case.name, events], bare))


def _progress(words: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{words}", end="", file=sys.stderr, flush=True)


async def _drain() -> None:
    drained = await drain()
    print(
        f"\ndrain of {CARTS:,} carts into a Voyado that takes {ANSWER_SECONDS * 1000:.0f} ms:"
        f" {drained.carts_per_second:,.0f} carts/s, {drained.requests} requests,"
        f" {drained.cpu_us:.0f} µs CPU per cart with the start, {drained.resident_mb:.0f} MB"
    )


async def _window() -> None:
    window = await measure()
    print(
        f"\nwindow of {KEYS:,} keys: {window['bytes_a_key']:.0f} bytes a key, rebuilt from its log"
        f" in {window['rebuild_seconds']:.1f} s\n({window['cpu_seconds']:.1f} s of CPU time),"
        f" {window['resident_mb']:.0f} MB resident"
    )


async def _isolation() -> None:
    lines = await isolation(_progress)
    _progress("")
    print(
        f"\nbeside a second destination, paced, {EVENTS_BESIDE} events a request: the answer's p95;"
        "\nreceipt to arrival at a webhook that is well, median and p95; medians of the samples,"
        "\nand of the ratios to the sample of the same round where both are well\n\n"
        f"{'the second destination':<26}    p95 ms  ratio  there ms  ratio    p95 ms  ratio"
    )
    print("\n".join(lines))


SIDES = {"drain": _drain, "window": _window, "isolation": _isolation}


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser("python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2, help="of load for each measurement")
    parser.add_argument("--only", default="", help="cases whose name holds this, beside bare")
    parser.add_argument("--side", choices=SIDES, action="append", help="without the table")
    options = parser.parse_args()
    if not has_wrk():
        sys.exit(INSTALL)
    if options.side is None:
        _measure_cases(options)
    if not options.only:
        for name in options.side or SIDES:
            asyncio.run(SIDES[name]())


def _measure_cases(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory(prefix="gateway-bench-broker-") as folder:
        broker = _broker(Path(folder))
        bare, *others = cases(broker)
        wanted = [bare, *(case for case in others if options.only in case.name)]
        try:
            asyncio.run(_table(wanted, options.rounds, options.seconds))
        finally:
            if broker is not None:
                broker.stop()


def _broker(folder: Path) -> Broker | None:
    """Start a broker if Java and Maven are here."""
    if not (shutil.which("java") and shutil.which("mvn")):
        print("No line for Kafka: java and mvn are missing (make test-setup says how)")
        return None
    logging.getLogger("aiokafka").disabled = True  # it tells of each try until the broker answers
    broker = Broker(folder, str)
    broker.start()
    return broker


if __name__ == "__main__":
    main()
