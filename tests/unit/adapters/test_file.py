"""The folder of NDJSON files: nothing lost, nothing torn, nothing overwritten."""

import asyncio
import errno
import gzip
import logging
import os
import shutil
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.adapters.destinations import file
from gateway.adapters.destinations.file import FileDestination, FileSettings
from gateway.model.attempt import Again, Done, Item, Reply
from gateway.model.envelope import Derived
from gateway.model.outcome import Outcome, Reason
from tests.sample import NOW_MS, StoppedClock, envelope

HOUR_MS = 3_600_000
Write = Callable[..., Awaitable[Reply]]


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


@pytest.fixture
async def opened(
    tmp_path: Path, clock: StoppedClock
) -> AsyncIterator[Callable[..., Awaitable[FileDestination]]]:
    """Start a destination on the folder; the one before it is stopped first."""
    running: list[FileDestination] = []

    async def start(**chosen: Any) -> FileDestination:
        while running:
            await running.pop().stop()
        settings = {"kind": "file", "path": tmp_path / "out", **chosen}
        destination = FileDestination(FileSettings.model_validate(settings), clock)
        running.append(destination)
        await destination.start()
        return destination

    yield start
    for destination in running:
        await destination.stop()


Opened = Callable[..., Awaitable[FileDestination]]


async def write(destination: FileDestination, clock: StoppedClock, *ids: str) -> Reply:
    """Append an event for each id; the file is then as old as the clock says."""
    items = [destination.prepare(envelope("page", id=each), NOW_MS) for each in ids]
    reply = await destination.send(
        destination.request([item for item in items if isinstance(item, Item)])
    )
    current = destination._current
    if current.exists():
        os.utime(current, (clock.ms / 1000, clock.ms / 1000))
    return reply


def ids(path: Path) -> list[str]:
    return [orjson.loads(line)["id"] for line in path.read_bytes().splitlines()]


def files(folder: Path) -> dict[str, list[str]]:
    return {path.name: ids(path) for path in sorted((folder / "out").glob("*.ndjson"))}


async def test_an_event_is_a_line_with_every_field(
    opened: Opened, clock: StoppedClock, tmp_path: Path
) -> None:
    destination = await opened()
    sale = envelope("sale", derived=Derived("close", "e-0"), metadata={"line": "a\nb\u2028c"})
    item = destination.prepare(sale, NOW_MS)
    assert isinstance(item, Item)
    assert (item.key, item.repeatable) == (None, True)
    reply = await destination.send(destination.request([item]))
    assert reply.verdicts == (Done(Outcome.DELIVERED),)
    content = (tmp_path / "out" / "events.ndjson").read_bytes()
    assert content.endswith(b"\n")
    assert content.count(b"\n") == 1
    assert orjson.loads(content) == sale.public()
    assert clock.ms == NOW_MS


async def test_what_is_delivered_and_what_is_compressed_is_on_the_disk(
    opened: Opened, clock: StoppedClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: set[tuple[int, int]] = set()
    fsync = os.fsync

    def remembered(descriptor: int) -> None:
        fsync(descriptor)
        file = os.fstat(descriptor)
        synced.add((file.st_ino, file.st_size))

    def is_synced(path: Path) -> bool:
        return (path.stat().st_ino, path.stat().st_size) in synced

    monkeypatch.setattr(os, "fsync", remembered)
    destination = await opened(gzip=True, rotate_bytes=1)
    await write(destination, clock, "a")
    assert is_synced(tmp_path / "out" / "events.ndjson")
    await write(destination, clock, "b")
    await compressed(tmp_path / "out", 1)
    (packed,) = (tmp_path / "out").glob("*.gz")
    assert is_synced(packed)


async def test_batches_follow_each_other_also_after_a_restart(
    opened: Opened, clock: StoppedClock, tmp_path: Path
) -> None:
    await write(await opened(), clock, "a", "b")
    await write(await opened(), clock, "c")
    assert files(tmp_path) == {"events.ndjson": ["a", "b", "c"]}


@pytest.mark.parametrize("torn", [b'{"id": "b', b'{"id": "' + b"b" * 200_000, b"\xff"])
async def test_the_torn_line_of_a_crash_is_cut(
    torn: bytes, opened: Opened, clock: StoppedClock, tmp_path: Path
) -> None:
    await write(await opened(), clock, "a")
    with (tmp_path / "out" / "events.ndjson").open("ab") as file:
        file.write(torn)
    destination = await opened(rotate_seconds=1e12)
    assert files(tmp_path) == {"events.ndjson": ["a"]}
    await write(destination, clock, "b")
    assert files(tmp_path) == {"events.ndjson": ["a", "b"]}


async def test_a_file_that_is_one_torn_line_is_emptied(opened: Opened, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "events.ndjson").write_bytes(b'{"id"')
    await opened()
    assert files(tmp_path) == {"events.ndjson": []}


async def test_a_full_file_gets_a_name_with_its_time(
    opened: Opened, clock: StoppedClock, tmp_path: Path
) -> None:
    destination = await opened(rotate_bytes=1)
    await write(destination, clock, "a", "b")
    clock.ms += 61_000
    await write(destination, clock, "c")
    assert files(tmp_path) == {
        "events-20260302T101601.120Z.ndjson": ["a", "b"],
        "events.ndjson": ["c"],
    }


async def test_no_file_is_overwritten_when_two_are_full_at_once(
    opened: Opened, clock: StoppedClock, tmp_path: Path
) -> None:
    destination = await opened(rotate_bytes=1)
    for each in "abc":
        await write(destination, clock, each)
    assert files(tmp_path) == {
        "events-20260302T101500.120Z.ndjson": ["a"],
        "events-20260302T101500.121Z.ndjson": ["b"],
        "events.ndjson": ["c"],
    }


async def test_a_file_holds_one_period_also_across_a_restart(
    opened: Opened, clock: StoppedClock, tmp_path: Path
) -> None:
    await write(await opened(rotate_seconds=3600), clock, "a")
    clock.ms += HOUR_MS // 2
    await write(await opened(rotate_seconds=3600), clock, "b")
    clock.ms += HOUR_MS // 2
    await write(await opened(rotate_seconds=3600), clock, "c")
    assert files(tmp_path) == {
        "events-20260302T111500.120Z.ndjson": ["a", "b"],
        "events.ndjson": ["c"],
    }


async def test_a_folder_that_cannot_be_written_is_tried_again(
    opened: Opened, clock: StoppedClock, tmp_path: Path
) -> None:
    destination = await opened()
    shutil.rmtree(tmp_path / "out")
    reply = await write(destination, clock, "a", "b")
    detail = f"{tmp_path / 'out'}: {os.strerror(errno.ENOENT)}"
    assert reply.verdicts == (Again(Reason.UNAVAILABLE, detail=detail),) * 2
    assert reply.answer == detail
    (tmp_path / "out").mkdir()
    await write(destination, clock, "a", "b")
    assert files(tmp_path) == {"events.ndjson": ["a", "b"]}


async def test_a_full_disk_leaves_no_part_of_a_batch(
    opened: Opened, clock: StoppedClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    destination = await opened()
    await write(destination, clock, "a")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        reply = await write(destination, clock, "b", "c")
    assert "No space left on device" in reply.answer
    assert {verdict.reason for verdict in reply.verdicts} == {Reason.UNAVAILABLE}
    assert files(tmp_path) == {"events.ndjson": ["a"]}
    await write(destination, clock, "b", "c")
    assert files(tmp_path) == {"events.ndjson": ["a", "b", "c"]}


async def test_a_folder_belongs_to_one_at_a_time(opened: Opened, tmp_path: Path) -> None:
    await opened()
    settings = FileSettings.model_validate({"kind": "file", "path": tmp_path / "out"})
    second = FileDestination(settings, StoppedClock())
    with pytest.raises(OSError, match="in use by another destination or process"):
        await second.start()
    await second.stop()


async def test_a_path_that_is_a_file_is_said_at_the_start(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    settings = FileSettings.model_validate({"kind": "file", "path": tmp_path / "taken"})
    destination = FileDestination(settings, StoppedClock())
    with pytest.raises(OSError, match="exists"):
        await destination.start()
    await destination.stop()


async def test_what_was_stopped_or_could_not_start_may_be_started_again(
    opened: Opened, clock: StoppedClock, tmp_path: Path
) -> None:
    first = await opened(gzip=True)
    second = FileDestination(
        FileSettings.model_validate({"kind": "file", "path": tmp_path / "out"}), clock
    )
    with pytest.raises(OSError, match="in use"):
        await second.start()
    await first.stop()
    await second.start()
    await write(second, clock, "a")
    await second.stop()
    await first.start()
    await write(first, clock, "b")
    assert files(tmp_path) == {"events.ndjson": ["a", "b"]}


# gzip


def counted(folder: Path) -> list[str]:
    """Return the ids of all events that a reader of the folder finds, as `zcat -f` reads it."""
    found = []
    for path in [*folder.glob("events*.ndjson"), *folder.glob("events*.ndjson.gz")]:
        content = path.read_bytes()
        plain = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
        whole = plain[: plain.rfind(b"\n") + 1]
        found += [orjson.loads(line)["id"] for line in whole.splitlines()]
    return sorted(found)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def compressed(folder: Path, number: int) -> list[str]:
    """Wait until so many files are compressed and no finished one is plain; return all names."""
    async with asyncio.timeout(10):
        while True:
            found = names(folder)
            plain = [name for name in found if name.startswith("events-") and name[-3:] != ".gz"]
            if not plain and len([name for name in found if name[-3:] == ".gz"]) >= number:
                return found
            await asyncio.sleep(0.005)


async def test_a_finished_file_is_compressed_and_the_current_one_is_not(
    opened: Opened, clock: StoppedClock, tmp_path: Path
) -> None:
    destination = await opened(gzip=True, rotate_bytes=1)
    for each in "abc":
        await write(destination, clock, each)
    assert await compressed(tmp_path / "out", 2) == [
        ".lock",
        "events-20260302T101500.120Z.ndjson.gz",
        "events-20260302T101500.121Z.ndjson.gz",
        "events.ndjson",
    ]
    assert counted(tmp_path / "out") == ["a", "b", "c"]


async def test_files_finished_before_are_compressed_at_the_start(
    opened: Opened, clock: StoppedClock, tmp_path: Path
) -> None:
    destination = await opened(rotate_bytes=1)
    for each in "abc":
        await write(destination, clock, each)
    await opened(gzip=True)
    await compressed(tmp_path / "out", 2)
    assert counted(tmp_path / "out") == ["a", "b", "c"]


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Compressing goes on only when this is set."""
    go_on = threading.Event()

    class Held(gzip.GzipFile):
        def write(self, data: Any) -> int:
            assert go_on.wait(10)
            return super().write(data)

    monkeypatch.setattr(gzip, "GzipFile", Held)
    return go_on


async def test_events_are_written_while_a_file_is_compressed(
    opened: Opened, clock: StoppedClock, tmp_path: Path, held: threading.Event
) -> None:
    destination = await opened(gzip=True, rotate_bytes=1)
    for each in "abc":
        await write(destination, clock, each)
    assert counted(tmp_path / "out") == ["a", "b", "c"]
    assert not list((tmp_path / "out").glob("*.gz"))
    held.set()
    await compressed(tmp_path / "out", 2)
    assert counted(tmp_path / "out") == ["a", "b", "c"]


async def test_stopping_does_not_wait_for_compressing_which_begins_anew_the_next_time(
    opened: Opened,
    clock: StoppedClock,
    tmp_path: Path,
    held: threading.Event,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(file, "_GZIP_BLOCK_BYTES", 1)
    destination = await opened(gzip=True, rotate_bytes=1)
    for each in "ab":
        await write(destination, clock, each)
    stopping = asyncio.create_task(destination.stop())
    assert destination._gzip is not None
    async with asyncio.timeout(10):
        while not destination._gzip._ending.is_set():
            await asyncio.sleep(0.005)
    held.set()
    await stopping
    plain = [".lock", "events-20260302T101500.120Z.ndjson", "events.ndjson"]
    assert names(tmp_path / "out") == plain
    await opened(gzip=True)
    await compressed(tmp_path / "out", 1)
    assert counted(tmp_path / "out") == ["a", "b"]


async def test_a_disk_that_is_full_leaves_the_file_as_it_was_until_the_next_is_finished(
    opened: Opened,
    clock: StoppedClock,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    destination = await opened(gzip=True, rotate_bytes=1)
    fsync = os.fsync

    def full(descriptor: int) -> None:
        if threading.current_thread().name.startswith("gzip"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        patch.setattr(os, "fsync", full)
        for each in "ab":
            await write(destination, clock, each)
        async with asyncio.timeout(10):
            while "No space left on device" not in caplog.text:
                await asyncio.sleep(0.005)
    plain = [".lock", "events-20260302T101500.120Z.ndjson", "events.ndjson"]
    assert names(tmp_path / "out") == plain
    await write(destination, clock, "c")
    await compressed(tmp_path / "out", 2)
    assert counted(tmp_path / "out") == ["a", "b", "c"]


async def test_killed_at_any_step_each_event_is_there_once_and_the_next_start_mends_the_names(
    opened: Opened, tmp_path: Path
) -> None:
    root = tmp_path / "killed"
    root.mkdir()
    killing = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.killed_file", str(root)
    )
    assert await killing.wait() == 0
    steps = sorted(root.iterdir())
    assert len(steps) > 15
    for step in steps:
        acknowledged = sorted((step / "acknowledged").read_text())
        found = counted(step / "out")
        assert set(acknowledged) <= set(found), step
        assert all(one != next_one for one, next_one in pairwise(found)), step
        await opened(path=step / "out")  # without gzip: what was begun is mended all the same
        assert_each_is_what_its_name_says(step / "out")
        assert counted(step / "out") == found, step
        await opened(path=step / "out", gzip=True)
        await compressed(step / "out", 0)
        assert_each_is_what_its_name_says(step / "out")
        assert counted(step / "out") == found, step


def assert_each_is_what_its_name_says(folder: Path) -> None:
    for path in folder.iterdir():
        assert path.name == ".lock" or path.suffix in {".ndjson", ".gz"}
        assert (path.suffix == ".gz") is path.read_bytes().startswith(b"\x1f\x8b")
