"""One run: load and faults side by side, then peace, then the account."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from gateway.adapters.kafka import KafkaBuffer
from gateway.ports import Buffer
from tests.brokers import Broker
from tests.chaos.faults import Strike, destination_at_fault, possible
from tests.chaos.world import World, world
from tests.loads import Account, judge

DESTINATIONS = ("voyado", "dub", "archive")
PEACE_SECONDS = 240
"""Until everything has its outcome, once nothing is broken any more."""

Say = Callable[[str], None]


async def run(folder: Path, seed: int, events: int, broker: Broker | None, say: Say) -> None:
    """Try it with one seed, and say what happened. Raises AssertionError with what was wrong."""
    async with world(folder, seed, events, broker) as there:
        strikes = possible(there)
        sending = asyncio.ensure_future(there.load.send(there.gateway))
        try:
            struck = await asyncio.gather(
                _strike(there, strikes, sending), _strike(there, [destination_at_fault], sending)
            )
            await sending
        finally:
            sending.cancel()
        account = await _in_peace(there)
        lines = judge(there.load, account, there.there, folder, may_be_late=True)
        assert "Traceback" not in there.gateway.log(), there.gateway.log()[-6000:]
    for line in (*struck[0], *struck[1]):
        say(f"  - {line}")
    say(f"  {there.load.retries} posts repeated")
    for line in lines:
        say(f"  {line}")


async def _strike(there: World, strikes: list[Strike], sending: asyncio.Future[None]) -> list[str]:
    """Strike again and again while the load comes in."""
    struck = []
    while not sending.done():
        struck.append(await there.rng.choice(strikes)(there))
        await asyncio.wait({sending}, timeout=there.rng.uniform(0.2, 2))
    return struck


async def _in_peace(there: World) -> Account:
    """Wait until every record has its outcome, and read the logs."""
    if there.clock is not None:
        there.clock.write_text("+0")
    buffer = there.buffer()
    if isinstance(buffer, KafkaBuffer):
        await buffer.start()
        try:
            account = await _complete(buffer)
        finally:
            await buffer.stop()
        assert await there.gateway.stop() == 0, there.gateway.log()[-3000:]
        return account
    await there.gateway.until_drained(DESTINATIONS, PEACE_SECONDS)
    assert await there.gateway.stop() == 0, there.gateway.log()[-3000:]
    await buffer.start()
    try:
        return await _complete(buffer)
    finally:
        await buffer.stop()


async def _complete(buffer: Buffer) -> Account:
    async with asyncio.timeout(PEACE_SECONDS):
        while True:
            account = Account()
            await account.read(buffer)
            if not any(map(account.without_outcome, DESTINATIONS)):
                return account
            await asyncio.sleep(1)
