"""20,000 mixed events with retries and copies, while the gateway is killed -9 five times."""

import asyncio
import random
from pathlib import Path

import pytest

from gateway.adapters.clock import SystemClock
from gateway.adapters.sqlite import SqliteBuffer
from gateway.adapters.sqlite.settings import SqliteSettings
from gateway.model.window import DedupSettings
from gateway.sandbox.dub import DUB
from tests.gateways import Gateway, config, sandboxes
from tests.loads import EVENTS, Account, Load, judge

KILLS = 5

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]


async def test_nothing_answered_2xx_is_lost_or_counted_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = random.randrange(1 << 30)
    load = Load(random.Random(seed), SystemClock().now_ms())
    load.make()
    async with sandboxes() as there:
        for click in load.clicks:
            there.dub[DUB].click("summer", click)
        gateway = Gateway(tmp_path, config(tmp_path, there))
        await gateway.start()
        try:
            await _load_with_kills(gateway, load)
            await gateway.until_drained(("voyado", "dub", "archive"), 180)
            assert await gateway.stop() == 0, gateway.log()
        finally:
            await gateway.abandon()
        account = await _account(tmp_path / "buffer.db")
        lines = judge(load, account, there, tmp_path)
    with capsys.disabled():
        print(f"\n  seed {seed}, {gateway.kills} kills, {load.retries} posts repeated")  # noqa: T201
        for line in lines:
            print("  " + line)  # noqa: T201


async def _account(path: Path) -> Account:
    buffer = SqliteBuffer(SqliteSettings(path=path), SystemClock(), (), DedupSettings())
    await buffer.start()
    try:
        account = Account()
        await account.read(buffer)
    finally:
        await buffer.stop()
    return account


async def _load_with_kills(gateway: Gateway, load: Load) -> None:
    sending = asyncio.ensure_future(load.send(gateway))
    for kill in range(KILLS):
        due = EVENTS * (kill + 1) // (KILLS + 1)
        while len(load.acknowledged) < due and not sending.done():
            await asyncio.sleep(0.01)
        await gateway.kill()
        await gateway.start()
    await sending
