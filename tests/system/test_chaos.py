"""A short run of the chaos suite on each buffer; `make chaos` makes long ones."""

import random
from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.chaos.run import run

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]
EVENTS = 1_500


async def test_the_account_holds_after_chaos_on_the_embedded_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await _run(tmp_path, capsys, None)


async def test_the_account_holds_after_chaos_on_kafka(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], broker: Broker
) -> None:
    await _run(tmp_path, capsys, broker)


async def _run(folder: Path, capsys: pytest.CaptureFixture[str], broker: Broker | None) -> None:
    seed = random.randrange(1 << 30)
    said = [f"seed {seed}"]
    try:
        await run(folder, seed, EVENTS, broker, said.append)
    finally:
        with capsys.disabled():
            print("\n  " + "\n".join(said))  # noqa: T201
