"""Mixed events with retries and copies, while the gateway is killed -9 again and again."""

import asyncio
import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from gateway.adapters.clock import SystemClock
from gateway.adapters.kafka import KafkaBuffer
from gateway.adapters.sqlite import SqliteBuffer
from gateway.adapters.sqlite.settings import SqliteSettings
from gateway.model.window import DedupSettings
from gateway.ports import Buffer
from gateway.sandbox.dub import DUB
from tests.brokers import Broker, on_broker
from tests.gateways import BufferSettings, Gateway, config, sandboxes
from tests.loads import Account, Load, judge

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]
DESTINATIONS = ("voyado", "dub", "archive")


@dataclass
class Case:
    """What is tried, on which buffer."""

    folder: Path
    settings: BufferSettings
    buffer: Buffer
    """The same one, to read it in the end."""
    events: int
    kills: int
    commands: tuple[str, ...] = ("run",)


async def test_nothing_answered_2xx_is_lost_or_counted_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = SqliteSettings(path=tmp_path / "buffer.db")
    buffer = SqliteBuffer(settings, SystemClock(), (), DedupSettings())
    await _try(Case(tmp_path, settings, buffer, events=20_000, kills=5), capsys)


@pytest.mark.parametrize("commands", [("run",), ("ingest", "deliver", "deliver")])
async def test_nothing_answered_2xx_is_lost_or_counted_twice_on_kafka(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    broker: Broker,
    commands: tuple[str, ...],
) -> None:
    settings = on_broker(broker, partitions=4)
    buffer = KafkaBuffer(settings, keep_seconds=1, hand_over_seconds=1)
    case = Case(tmp_path, settings, buffer, events=6_000, kills=4, commands=commands)
    await _try(case, capsys)


async def _try(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    seed = random.randrange(1 << 30)
    load = Load(random.Random(seed), SystemClock().now_ms(), case.events)
    load.make()
    async with sandboxes() as there:
        for click in load.clicks:
            there.dub[DUB].click("summer", click)
        gateway = Gateway(
            case.folder, config(case.folder, there, buffer=case.settings), case.commands
        )
        await gateway.start()
        try:
            await _load_with_kills(gateway, load, case)
            await gateway.until_drained(DESTINATIONS, 180)
            assert await gateway.stop() == 0, gateway.log()
        finally:
            await gateway.abandon()
        lines = judge(load, await _account(case.buffer), there, case.folder)
    with capsys.disabled():
        print(f"\n  {type(case.buffer).__name__}: {', '.join(case.commands)}")  # noqa: T201
        print(f"  seed {seed}, {gateway.kills} kills, {load.retries} posts repeated")  # noqa: T201
        for line in lines:
            print("  " + line)  # noqa: T201


async def _account(buffer: Buffer) -> Account:
    await buffer.start()
    try:
        account = Account()
        await account.read(buffer)
    finally:
        await buffer.stop()
    return account


async def _load_with_kills(gateway: Gateway, load: Load, case: Case) -> None:
    """Kill the processes in turn while the load comes in."""
    sending = asyncio.ensure_future(load.send(gateway))
    for kill in range(case.kills):
        due = case.events * (kill + 1) // (case.kills + 1)
        while len(load.acknowledged) < due and not sending.done():
            await asyncio.sleep(0.01)
        place = kill % len(case.commands)
        await gateway.kill(place)
        await gateway.start(place)
    await sending
