"""A short run of the chaos suite on each buffer; `make chaos` makes long ones."""

from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.chaos.run import run

pytestmark = [pytest.mark.system, pytest.mark.timeout(400)]
EVENTS = 1_500
SEED = 20261121
"""The faults are the same each time, though not what they meet; `make chaos` draws others."""


async def test_the_account_holds_after_chaos_on_the_embedded_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await _run(tmp_path, capsys, None)


async def test_the_account_holds_after_chaos_on_kafka(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], broker: Broker
) -> None:
    await _run(tmp_path, capsys, broker)


async def _run(folder: Path, capsys: pytest.CaptureFixture[str], broker: Broker | None) -> None:
    said = [f"seed {SEED}"]
    try:
        await run(folder, SEED, EVENTS, broker, said.append)
    finally:
        with capsys.disabled():
            print("\n  " + "\n".join(said))  # noqa: T201
