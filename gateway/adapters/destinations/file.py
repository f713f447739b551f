"""A folder of NDJSON files: every event as one line, whole and flat. The example to copy.

The current file is `events.ndjson`; full or past its time it becomes `events-<UTC time>.ndjson`.
A crash may repeat lines (the same `id`), never lose one. One process writes to a folder at a time.
"""

import asyncio
import fcntl
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path
from typing import Annotated, BinaryIO, Literal

import orjson
from pydantic import Field

from gateway.deliver.settings import DestinationSettings, EventType, Seconds
from gateway.model.attempt import Again, Done, Item, Reply, Request, Skip
from gateway.model.envelope import Envelope
from gateway.model.instant import format_ms
from gateway.model.outcome import Outcome, Reason
from gateway.ports import Clock

_BLOCK_BYTES = 65_536


class FileSettings(DestinationSettings):
    """One folder."""

    kind: Literal["file"]
    path: Path
    rotate_bytes: Annotated[int, Field(ge=1)] = 104_857_600
    """A batch that would make the file larger goes into a new one."""
    rotate_seconds: Seconds = 86_400.0
    """A file holds one such period, counted from the epoch (a day: from midnight to midnight, UTC).
    It gets its name when the first event after it is written."""
    events: tuple[EventType, ...] = (
        "page", "product", "cart", "lead", "sale", "customer", "custom", "mail_visit", "mail_order",
    )  # fmt: skip
    batch_events: Annotated[int, Field(ge=1, le=1000)] = 500


class FileDestination:
    """The `Destination` for a folder."""

    def __init__(self, settings: FileSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._current = settings.path / "events.ndjson"
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="file")
        self._lock: BinaryIO | None = None

    @property
    def needs_contact(self) -> bool:
        """Views were written when they happened."""
        return False

    @property
    def cart_step_ms(self) -> int:
        """Events are written with their own time."""
        return 1

    def prepare(self, envelope: Envelope, _time_ms: int) -> Item | Skip:
        """Take every event; a reader tells a repeated one by its id."""
        return Item("events", key=None, repeatable=True, body=envelope.public())

    def batch_limit(self, _kind: str) -> int:
        """Return the setting."""
        return self._settings.batch_events

    def request(self, items: Sequence[Item]) -> Request:
        """Put one event on each line."""
        lines = [orjson.dumps(item.body, option=orjson.OPT_APPEND_NEWLINE) for item in items]
        return Request("append", b"".join(lines), tuple(items))

    async def send(self, request: Request) -> Reply:
        """Append the batch; when this returns `delivered` it is on the disk."""
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._thread, self._append, request.body)
        except OSError as error:
            detail = f"{self._settings.path}: {error.strerror}"
            again = Again(Reason.UNAVAILABLE, detail=detail)
            return Reply((again,) * len(request.items), answer=detail)
        return Reply((Done(Outcome.DELIVERED),) * len(request.items))

    async def start(self) -> None:
        """Make the folder and take it. Raises OSError when it can't, or another has it."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._thread, self._take)

    async def stop(self) -> None:
        """Finish the batch in hand and let go of the folder."""
        await asyncio.to_thread(self._thread.shutdown)
        if self._lock is not None:
            self._lock.close()

    # What follows runs in the one thread, so one batch at a time.

    def _take(self) -> None:
        self._settings.path.mkdir(parents=True, exist_ok=True)
        self._lock = (self._settings.path / ".lock").open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            message = f"{self._settings.path} is in use by another destination or process"
            raise OSError(error.errno, message) from None
        with self._current.open("ab+", buffering=0) as file:
            _cut_torn_line(file)

    def _append(self, lines: bytes) -> None:
        self._rotate(len(lines))
        with self._current.open("ab+", buffering=0) as file:
            size = _cut_torn_line(file)
            try:
                _write(file, lines)
                if size == 0:
                    _sync_folder(self._settings.path)
            except OSError:
                file.truncate(size)
                raise

    def _rotate(self, more_bytes: int) -> None:
        """Give the current file its final name if it is full or its period is over."""
        before = self._current.stat() if self._current.exists() else None
        if before is None or before.st_size == 0:
            return
        now_ms = self._clock.now_ms()
        period_ms = self._settings.rotate_seconds * 1000
        full = before.st_size + more_bytes > self._settings.rotate_bytes
        if full or before.st_mtime * 1000 // period_ms != now_ms // period_ms:
            self._current.rename(self._free_name(now_ms))

    def _free_name(self, now_ms: int) -> Path:
        while True:
            time = format_ms(now_ms).replace(":", "").replace("-", "")
            path = self._settings.path / f"events-{time}.ndjson"
            if not path.exists():
                return path
            now_ms += 1


def _cut_torn_line(file: FileIO) -> int:
    """Cut what a crash or a full disk left of a last line; return the size then."""
    end = size = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - _BLOCK_BYTES)
        file.seek(start)
        newline = file.read(end - start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:  # for a truncation in vain would still make the file look written now
        file.truncate(end)
    return end


def _write(file: FileIO, lines: bytes) -> None:
    rest = memoryview(lines)
    while rest:
        rest = rest[file.write(rest) :]
    os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a new name in the folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
