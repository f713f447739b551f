"""What a bad destination costs the rest: how fast ingest answers, how soon a good one has events.

A gateway delivers to a webhook that is always well, and to a Voyado that is well, down, a tarpit,
answers what is no HTTP, or refuses every event; one gateway each, measured in turn.
The load is paced, not as much as it takes: a gateway that is full has no latency to compare.
"""

import asyncio
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from operator import attrgetter
from statistics import median, quantiles

import orjson
from aiohttp import web

from gateway.model.instant import parse_ms
from tests.bench.load import load
from tests.bench.subjects import Whole, running
from tests.gateways import Gateway, free_port

ROUNDS = 15
SECONDS = 1
"""Short, and often: what else the machine does then falls on all alike."""
PAUSE_MS = 160
"""Of each connection between two requests, on average: about 400 requests a second."""
EVENTS = 2
SETTLE_SECONDS = 0.5
"""What fell due while a gateway was frozen is done before it is measured."""
TARPIT_SECONDS = 1
"""After so long a request is given up. The default of 10 would mean fewer of them."""
LATEST_SECONDS = 30

DESTINATIONS = """
[destinations.hook]
kind = "webhook"
url = "{good}"
secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqr"]
allow_private_addresses = true
batch_seconds = 0.1
[destinations.voyado]
kind = "voyado"
base_url = "{bad}"
api_key = "sandbox-voyado-key"
batch_seconds = 0.1
timeout_seconds = {timeout}
"""

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class _Sample:
    """One measurement, in milliseconds."""

    p95: float
    arrived: float
    """From the receipt of an event to the good destination, the median."""
    arrived_p95: float


@dataclass
class Good:
    """The webhook that is always well; it notes how long each event was on its way."""

    took_ms: list[int] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)

    async def take(self, request: web.Request) -> web.Response:
        now_ms = time.time_ns() // 1_000_000
        for event in orjson.loads(await request.read()):
            self.took_ms.append(now_ms - parse_ms(event["receivedAt"]))
            self.ids.append(event["id"])
        return web.Response(status=204)


@asynccontextmanager
async def serve(take: Callable[[web.Request], Awaitable[web.Response]]) -> AsyncIterator[str]:
    """Serve it on a free port; the address."""
    app = web.Application(client_max_size=1 << 24)
    app.router.add_post("/{path:.*}", take)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def _answer(status: int, request: web.Request) -> web.Response:
    await request.read()
    return web.Response(status=status)


@asynccontextmanager
async def _down() -> AsyncIterator[str]:
    yield f"http://127.0.0.1:{free_port()}"


@asynccontextmanager
async def _raw(answer: Answer) -> AsyncIterator[str]:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def _hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read what comes until the other side gives up, and answer nothing."""
    while await reader.read(1 << 16):
        pass
    writer.close()


async def _babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1 << 16)
    writer.write(b"\x00\xffrubbish" * 500)
    writer.close()


CASES: dict[str, Callable[[], AbstractAsyncContextManager[str]]] = {
    "well": partial(serve, partial(_answer, 200)),
    "down": _down,
    "tarpit": partial(_raw, _hold),
    "answers no HTTP": partial(_raw, _babble),
    "refuses all": partial(serve, partial(_answer, 400)),
}
"""The first is what the others are compared with."""


async def isolation(progress: Callable[[str], None]) -> list[str]:
    """Measure it; return the lines of the table."""
    samples: dict[str, list[_Sample]] = defaultdict(list)
    async with AsyncExitStack() as stack:
        subjects = {
            name: await stack.enter_async_context(_subject(bad)) for name, bad in CASES.items()
        }
        for number in range(ROUNDS):
            for name, subject in subjects.items():
                progress(f"isolation, round {number + 1}: a destination that is {name}")
                samples[name].append(await subject.sample())
    return [_line(name, found, samples["well"]) for name, found in samples.items()]


@dataclass
class _Subject:
    """A gateway, frozen while others are measured, so that they have the machine to themselves."""

    whole: Whole
    good: Good

    async def sample(self) -> _Sample:
        gateway = self.whole.gateway
        gateway.send(signal.SIGCONT)
        await asyncio.sleep(SETTLE_SECONDS)
        self.good.took_ms.clear()
        found = await load(self.whole.url, EVENTS, SECONDS, PAUSE_MS)
        await gateway.until_drained(("hook",), LATEST_SECONDS)
        await _check(gateway, self.good)
        gateway.send(signal.SIGSTOP)
        took_ms = self.good.took_ms
        return _Sample(found["p95_ms"], median(took_ms), quantiles(took_ms, n=20)[-1])


@asynccontextmanager
async def _subject(bad: Callable[[], AbstractAsyncContextManager[str]]) -> AsyncIterator[_Subject]:
    good = Good()
    async with serve(good.take) as good_url, bad() as bad_url:
        text = DESTINATIONS.format(good=good_url, bad=bad_url, timeout=TARPIT_SECONDS)
        async with running(text, ("hook", "voyado")) as whole:
            subject = _Subject(whole, good)
            try:
                await subject.sample()  # the first one is not like the others
                yield subject
            finally:
                whole.gateway.send(signal.SIGCONT)


async def _check(gateway: Gateway, good: Good) -> None:
    """Its outcomes are the same beside whatever destination: every event delivered, once."""
    found = await gateway.metrics()
    taken = sum(
        value
        for name, value in found.items()
        if name.startswith("gateway_events_total{") and 'outcome="accepted"' in name
    )
    delivered = found['gateway_deliveries_total{destination="hook",outcome="delivered"}']
    if not taken == delivered == len(good.ids) == len(set(good.ids)):
        raise RuntimeError(f"{taken} taken, {delivered} delivered, {len(good.ids)} arrived")


def _line(name: str, found: list[_Sample], undisturbed: list[_Sample]) -> str:
    parts = [f"{name:<26}"]
    for value in (attrgetter("p95"), attrgetter("arrived"), attrgetter("arrived_p95")):
        ratios = [value(one) / value(other) for one, other in zip(found, undisturbed, strict=True)]
        parts.append(f"{median(map(value, found)):>8.1f}  {median(ratios):>5.2f}")
    return "  ".join(parts)
