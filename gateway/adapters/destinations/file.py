"""A folder of NDJSON files: every event as one line, whole and flat. The example to copy.

The current file is `events.ndjson`; full or past its time it becomes `events-<UTC time>.ndjson`,
with `gzip` soon after `events-<UTC time>.ndjson.gz`: at any moment one of the two is there, and
only one. A crash may repeat lines (the same `id`), never lose one. One process writes to a folder
at a time.
"""

import asyncio
import fcntl
import gzip
import logging
import os
import threading
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

LOG = logging.getLogger("gateway.file")

_BLOCK_BYTES = 65_536
_GZIP_BLOCK_BYTES = 1 << 20
_GZIP_START = b"\x1f\x8b"
"""How every gzip file begins, and no line of JSON."""
_UNFINISHED = ".events.ndjson.gz.part"


class FileSettings(DestinationSettings):
    """One folder."""

    kind: Literal["file"]
    path: Path
    rotate_bytes: Annotated[int, Field(ge=1)] = 104_857_600
    """A batch that would make the file larger goes into a new one."""
    rotate_seconds: Seconds = 86_400.0
    """A file holds one such period, counted from the epoch (a day: from midnight to midnight, UTC).
    It gets its name when the first event after it is written."""
    gzip: bool = False
    """Whether files that are finished are compressed, also those finished before it was set."""
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
        self._gzip: _Gzip | None = None

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
        """Make the folder and take it. Raises OSError when it can't, or another has it.

        After `stop`, or when it failed, it may be called again.
        """
        await asyncio.to_thread(self._take)
        # The one before was ended by `stop`; one that was never used has no thread.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="file")
        if self._settings.gzip:
            self._gzip = _Gzip(self._settings.path)
            self._gzip.begin()

    async def stop(self) -> None:
        """Finish the batch in hand and let go of the folder. Compressing is left for next time."""
        await asyncio.to_thread(self._thread.shutdown)
        if self._gzip is not None:
            await asyncio.to_thread(self._gzip.stop)
        self._let_go()

    # What follows runs in the one thread, so one batch at a time.

    def _take(self) -> None:
        self._settings.path.mkdir(parents=True, exist_ok=True)
        self._lock = (self._settings.path / ".lock").open("ab")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._let_go()
            message = f"{self._settings.path} is in use by another destination or process"
            raise OSError(error.errno, message) from None
        try:
            with self._current.open("ab+", buffering=0) as file:
                _cut_torn_line(file)
            _finish_gzip(self._settings.path)
        except OSError:
            self._let_go()
            raise

    def _let_go(self) -> None:
        if self._lock is not None:
            self._lock.close()

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
            if self._gzip is not None:
                self._gzip.begin()

    def _free_name(self, now_ms: int) -> Path:
        while True:
            time = format_ms(now_ms).replace(":", "").replace("-", "")
            path = self._settings.path / f"events-{time}.ndjson"
            # In this order: a file that is being compressed changes from the first to the second.
            if not path.exists() and not _compressed(path).exists():
                return path
            now_ms += 1


class _Gzip:
    """Compresses what is finished, one file at a time, in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="gzip")
        self._ending = threading.Event()

    def begin(self) -> None:
        """Compress all files that are finished by the time that their turn comes."""
        self._thread.submit(self._all)

    def stop(self) -> None:
        """Leave off; a file that is half compressed stays as it was."""
        self._ending.set()
        self._thread.shutdown()

    def _all(self) -> None:
        for path in sorted(_finished(self._folder)):
            if self._ending.is_set():
                return
            try:
                if _is_compressed(path):  # giving it its name failed
                    _name_compressed(path)
                else:
                    self._one(path)
            except OSError as error:
                LOG.warning("%s stays uncompressed for now: %s", path, error.strerror)

    def _one(self, path: Path) -> None:
        """Put the compressed file into the plain one's place, and then give it its own name.

        Each is one step of the file system's. Between the two it has the plain one's name, which
        the next start mends; the other way round there would be moments with both files or none.
        """
        part = self._folder / _UNFINISHED
        try:
            if not self._compress(path, part):
                return
            part.rename(path)
        finally:
            part.unlink(missing_ok=True)
        _sync_folder(self._folder)
        _name_compressed(path)

    def _compress(self, path: Path, part: Path) -> bool:
        """Write `part`, durably; False when that was broken off."""
        with path.open("rb") as plain, part.open("wb") as file:
            with gzip.GzipFile(path.name, "wb", fileobj=file) as packed:
                while block := plain.read(_GZIP_BLOCK_BYTES):
                    if self._ending.is_set():
                        return False
                    packed.write(block)
            file.flush()
            os.fsync(file.fileno())
        return True


def _compressed(path: Path) -> Path:
    return path.with_name(path.name + ".gz")


def _finished(folder: Path) -> list[Path]:
    """Return the files that have their final name, but for compressed ones."""
    return list(folder.glob("events-*.ndjson"))


def _finish_gzip(folder: Path) -> None:
    """Mend what a crash interrupted: name what is compressed, remove what is so by half."""
    (folder / _UNFINISHED).unlink(missing_ok=True)
    for path in _finished(folder):
        if _is_compressed(path):
            _name_compressed(path)


def _is_compressed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_GZIP_START)) == _GZIP_START


def _name_compressed(path: Path) -> None:
    path.rename(_compressed(path))
    _sync_folder(path.parent)


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
