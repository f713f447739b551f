"""Processes on a real Kafka: what befalls them under load, and the account after it."""

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway.adapters.clock import SystemClock
from gateway.adapters.kafka import KafkaBuffer
from gateway.model.outcome import Reason
from gateway.sandbox.dub import DUB
from tests.brokers import Broker, on_broker
from tests.gateways import Gateway, config, eventually, sandboxes
from tests.loads import Account, Load, judge

pytestmark = [pytest.mark.system, pytest.mark.timeout(300)]
EVENTS = 5_000
SESSION_SECONDS = 3.0
ROLES = ("ingest", "deliver", "deliver", "deliver")
"""At the beginning the first two run."""
AWAY_SECONDS = 60

Befalls = Callable[[Gateway, Broker], Awaitable[None]]


async def broker_killed(_: Gateway, broker: Broker) -> None:
    await asyncio.to_thread(broker.kill)
    await asyncio.to_thread(broker.start)


async def broker_frozen(_: Gateway, broker: Broker) -> None:
    broker.pause()
    await asyncio.sleep(10)
    broker.resume()


async def broker_away(gateway: Gateway, broker: Broker) -> None:
    """For a minute: requests are refused meanwhile, and memory stays flat."""
    await asyncio.to_thread(broker.stop)
    await asyncio.sleep(AWAY_SECONDS / 3)
    before = await _resident(gateway)
    await asyncio.sleep(AWAY_SECONDS * 2 / 3)
    assert await _resident(gateway) < before * 1.2
    await asyncio.to_thread(broker.start)


async def deliver_frozen(gateway: Gateway, _: Broker) -> None:
    """Past its session time-out, while another takes over."""
    await gateway.start(2)
    await asyncio.sleep(SESSION_SECONDS)
    gateway.send(signal.SIGSTOP, 1)
    await asyncio.sleep(SESSION_SECONDS * 3)
    gateway.send(signal.SIGCONT, 1)


async def replicas_come_and_go(gateway: Gateway, _: Broker) -> None:
    """Two and three replicas, each hand-over a planned one."""
    await gateway.start(2)
    await gateway.start(3)
    assert await gateway.stop(1) == 0
    assert await gateway.stop(2) == 0
    await gateway.start(1)


async def _resident(gateway: Gateway) -> float:
    return (await gateway.metrics())["process_resident_memory_bytes"]


@pytest.mark.parametrize(
    "befalls",
    [broker_killed, broker_frozen, broker_away, deliver_frozen, replicas_come_and_go],
)
async def test_the_account_holds_whatever_befalls_the_processes_and_the_broker(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], broker: Broker, befalls: Befalls
) -> None:
    settings = on_broker(broker, partitions=4).model_copy(
        update={"session_seconds": SESSION_SECONDS}
    )
    seed = random.randrange(1 << 30)
    load = Load(random.Random(seed), SystemClock().now_ms(), EVENTS)
    load.make()
    async with sandboxes() as there:
        for click in load.clicks:
            there.dub[DUB].click("summer", click)
        gateway = Gateway(tmp_path, config(tmp_path, there, buffer=settings), ROLES)
        try:
            await gateway.start(0, 1)
            sending = asyncio.ensure_future(load.send(gateway))
            await eventually(lambda: _acknowledged(load, EVENTS // 4), 60, "a quarter of the load")
            await befalls(gateway, broker)
            await sending
            account = await _complete(KafkaBuffer(settings, keep_seconds=1, hand_over_seconds=1))
            assert await gateway.stop() == 0, gateway.log()
        finally:
            await gateway.abandon()
        lines = judge(load, account, there, tmp_path)
    assert "Traceback" not in gateway.log(), gateway.log()[-6000:]
    if befalls is replicas_come_and_go:
        unknown = [
            each for each in account.fates["voyado"].values() if each.reason is Reason.UNKNOWN
        ]
        assert not unknown, "a planned hand-over leaves nothing in doubt"
    with capsys.disabled():
        print(f"\n  {befalls.__name__}: seed {seed}, {load.retries} posts repeated")  # noqa: T201
        for line in lines:
            print("  " + line)  # noqa: T201


async def _acknowledged(load: Load, events: int) -> bool:
    return len(load.acknowledged) >= events


async def _complete(buffer: KafkaBuffer) -> Account:
    """Read the logs until every record has its outcome."""
    await buffer.start()
    try:
        async with asyncio.timeout(120):
            while True:
                account = Account()
                await account.read(buffer)
                if not any(map(account.without_outcome, ("voyado", "dub", "archive"))):
                    return account
                await asyncio.sleep(1)
    finally:
        await buffer.stop()
