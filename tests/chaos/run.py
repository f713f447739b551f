"""One run: load and faults side by side, then peace, then the account."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from gateway.adapters.kafka import KafkaBuffer
from gateway.ports import Buffer
from tests.brokers import Broker
from tests.chaos.faults import (
    Strike,
    destination_at_fault,
    destination_refuses,
    letters_replayed,
    possible,
    refused_from_the_start,
)
from tests.chaos.replay import ask_again, replay_refused
from tests.chaos.world import World, world
from tests.loads import Account, judge

DESTINATIONS = ("voyado", "dub", "archive")
REPLAYING: list[Strike] = [destination_refuses, letters_replayed]
PEACE_SECONDS = 240
"""Until everything has its outcome, once nothing is broken any more."""

Say = Callable[[str], None]


async def run(folder: Path, seed: int, events: int, broker: Broker | None, say: Say) -> None:
    """Try it with one seed, and say what happened. Raises AssertionError with what was wrong."""
    async with world(folder, seed, events, broker) as there:
        await _under_load(there, say)
        account = await _in_peace(there)
        lines = judge(there.load, account, there.there, folder, may_be_late=True)
        assert "Traceback" not in there.gateway.log(), there.gateway.log()[-6000:]
    for line in lines:
        say(f"  {line}")


async def _under_load(there: World, say: Say) -> None:
    sending = asyncio.ensure_future(there.load.send(there.gateway))
    kinds: tuple[list[Strike], ...] = (possible(there), [destination_at_fault], REPLAYING)
    try:
        say(f"  - {await refused_from_the_start(there)}")
        await asyncio.gather(*(_strike(there, each, sending, say) for each in kinds))
        await sending
    finally:
        sending.cancel()
    say(f"  {there.load.retries} posts repeated")


async def _strike(
    there: World, strikes: list[Strike], sending: asyncio.Future[None], say: Say
) -> None:
    """Strike again and again while the load comes in."""
    while not sending.done():
        say(f"  - {await there.rng.choice(strikes)(there)}")
        await asyncio.wait({sending}, timeout=there.rng.uniform(0.2, 2))


async def _in_peace(there: World) -> Account:
    """Replay what was refused, until every record has its outcome; read the logs."""
    if there.clock is not None:
        there.clock.write_text("+0")
    buffer = there.buffer()
    async with asyncio.timeout(2 * PEACE_SECONDS):
        if isinstance(buffer, KafkaBuffer):
            account = await _complete_on_kafka(there, buffer)
            assert await there.gateway.stop() == 0, there.gateway.log()[-3000:]
            return account
        return await _complete_on_embedded(there, buffer)


async def _complete_on_kafka(there: World, buffer: Buffer) -> Account:
    await buffer.start()
    try:
        while True:
            await _replay(there)
            account = await _account(buffer)
            while _lacks_outcomes(account):
                await asyncio.sleep(1)
                account = await _account(buffer)
            if not account.refused():
                return account
    finally:
        await buffer.stop()


async def _complete_on_embedded(there: World, buffer: Buffer) -> Account:
    """The log belongs to the gateway: to read it, end it; it may not have been done by then."""
    while True:
        await _replay(there)
        await there.gateway.until_drained(DESTINATIONS, PEACE_SECONDS)
        assert await there.gateway.stop() == 0, there.gateway.log()[-3000:]
        await buffer.start()
        try:
            account = await _account(buffer)
        finally:
            await buffer.stop()
        if not (_lacks_outcomes(account) or account.refused()):
            return account
        await there.gateway.start()


async def _replay(there: World) -> None:
    """Ask for it twice at once, and then for what has been replayed already."""
    await asyncio.gather(replay_refused(there), replay_refused(there))
    await ask_again(there)


def _lacks_outcomes(account: Account) -> bool:
    return any(map(account.without_outcome, DESTINATIONS))


async def _account(buffer: Buffer) -> Account:
    account = Account()
    await account.read(buffer)
    return account
