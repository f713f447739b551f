"""The embedded log against what only whole processes can show: kills, syncs, full disks."""

import asyncio
import logging
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from gateway.adapters.sqlite import SqliteBuffer, SqliteSettings
from gateway.model.window import DedupSettings
from gateway.ports import Log
from tests.system.publisher import StillClock

pytestmark = pytest.mark.system

ROOT = Path(__file__).parent.parent.parent
DEADLINE_SECONDS = 30
PUBLISHER = (sys.executable, "-m", "tests.system.publisher")

Needs = Callable[[str], str]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "buffer.db"


def make(path: Path) -> SqliteBuffer:
    return SqliteBuffer(SqliteSettings(path=path), StillClock(), [], DedupSettings())


@asynccontextmanager
async def publishing(path: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *PUBLISHER, "forever", str(path), cwd=ROOT, stdout=subprocess.PIPE
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()


async def line(process: asyncio.subprocess.Process) -> bytes:
    assert process.stdout is not None
    async with asyncio.timeout(DEADLINE_SECONDS):
        return await process.stdout.readline()


async def contents(path: Path) -> dict[int, str]:
    """Open the log and return its events; their offsets must have no gap."""
    buffer = make(path)
    async with asyncio.timeout(DEADLINE_SECONDS):
        await buffer.start()
    try:
        found: dict[int, str] = {}
        while records := await buffer.read(Log.EVENTS, 0, len(found), 1000):
            found |= {each.offset: each.value.decode().rstrip(".") for each in records}
        assert list(found) == list(range((await buffer.span(Log.EVENTS, 0)).next))
    finally:
        await buffer.stop()
    return found


def acknowledged(output: str) -> dict[int, str]:
    """Return what the publisher's whole lines say; a last one without its end is no answer yet."""
    lines = [each.split() for each in output.splitlines(keepends=True) if each.endswith("\n")]
    return {int(words[0]): words[1] for words in lines if words[0].isdigit()}


async def test_what_was_acknowledged_is_there_after_kill_9(path: Path) -> None:
    promised: dict[int, str] = {}
    for lines in (1, 40, 300):
        async with publishing(path) as process:
            output = b""
            for _ in range(lines):
                output += await line(process)
            process.send_signal(signal.SIGKILL)
            assert process.stdout is not None
            output += await process.stdout.read()
            promised |= acknowledged(output.decode())
        found = await contents(path)
        assert {offset: found.get(offset) for offset in promised} == promised
    assert len(promised) > 340


async def test_a_second_process_waits_names_the_first_and_takes_over_when_it_is_killed(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "gateway.buffer")
    async with publishing(path) as process:
        await line(process)
        buffer = make(path)
        start = asyncio.ensure_future(buffer.start())
        done, _ = await asyncio.wait({start}, timeout=0.6)
        assert not done
        process.send_signal(signal.SIGKILL)
        async with asyncio.timeout(DEADLINE_SECONDS):
            await start
        await buffer.stop()
    (message,) = [record.getMessage() for record in caplog.records]
    assert message == (f"another gateway (pid {process.pid}) holds {path}; waiting for it to stop")


def syncs(strace: str, folder: Path, publishes: int) -> int:
    trace = folder / f"trace-{publishes}"
    command = (strace, "-f", "-e", "trace=fsync,fdatasync", "-o", str(trace), *PUBLISHER)
    log = folder / f"{publishes}.db"
    done = subprocess.run(
        (*command, "publish", str(log), str(publishes)),
        cwd=ROOT, check=True, capture_output=True, timeout=DEADLINE_SECONDS,
    )  # fmt: skip
    assert len(done.stdout.splitlines()) == publishes
    calls = ("fsync(", "fdatasync(")
    return sum(any(call in each for call in calls) for each in trace.read_text().splitlines())


def test_every_acknowledged_write_was_synced(tmp_path: Path, needs: Needs) -> None:
    strace = needs("strace")
    assert syncs(strace, tmp_path, 60) - syncs(strace, tmp_path, 20) >= 40


async def test_a_limit_on_the_files_size_refuses_and_once_lifted_all_goes_on(path: Path) -> None:
    done = await asyncio.to_thread(
        subprocess.run, (*PUBLISHER, "limited", str(path)),
        cwd=ROOT, check=True, capture_output=True, text=True, timeout=DEADLINE_SECONDS,
    )  # fmt: skip
    await _refused_then_went_on(done.stdout, path)


@pytest.mark.usefixtures("root")
async def test_a_full_disk_refuses_and_once_there_is_room_all_goes_on(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    script = """
        mount -t tmpfs -o size=4m none "$1" && head -c 1000000 /dev/zero > "$1/ballast"
        shift; "$@" && cp "$(dirname "$6")"/buffer.db* "$(dirname "$6")/.."
    """
    log, ballast = disk / "buffer.db", disk / "ballast"
    command = ("unshare", "-m", "sh", "-ec", script, "sh", str(disk), *PUBLISHER)
    done = await asyncio.to_thread(
        subprocess.run, (*command, "small", str(log), str(ballast)),
        cwd=ROOT, check=True, capture_output=True, text=True, timeout=DEADLINE_SECONDS,
    )  # fmt: skip
    await _refused_then_went_on(done.stdout, tmp_path / "buffer.db")


async def _refused_then_went_on(output: str, path: Path) -> None:
    assert "unavailable: " in output
    promised = acknowledged(output)
    assert len(promised) > 10
    assert list(promised.values())[-1] == "again"
    found = await contents(path)
    assert {offset: found.get(offset) for offset in promised} == promised
