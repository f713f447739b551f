"""One owner: an operating-system lock on a file beside the log, gone when its process is."""

import asyncio
import fcntl
import logging
import os
from pathlib import Path

_log = logging.getLogger("gateway.buffer")

POLL_SECONDS = 0.2
"""How often a waiting process tries: a wait in a thread could not be cancelled."""


class OwnerLock:
    """Held by the one process that may write. Survives no `kill -9`, and need not."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: int | None = None

    @property
    def held(self) -> bool:
        """Whether this process has it."""
        return self._file is not None

    async def acquire(self) -> None:
        """Wait for it, and say so in one line. Raises OSError."""
        file = await asyncio.to_thread(self._open)
        try:
            await self._wait(file)
            os.ftruncate(file, 0)
            os.pwrite(file, str(os.getpid()).encode(), 0)
        except BaseException:
            os.close(file)
            raise
        self._file = file

    def release(self) -> None:
        """Let the next process in. The file stays: unlinked, two could each lock their own."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> int:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path = self._path.resolve()  # by whatever link it was named
        return os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o640)

    async def _wait(self, file: int) -> None:
        told = False
        while not _try(file):
            if not told:
                holder = await asyncio.to_thread(self._holder)
                _log.warning(
                    "another gateway (pid %s) holds %s; waiting for it to stop", holder, self._path
                )
                told = True
            await asyncio.sleep(POLL_SECONDS)

    def _holder(self) -> str:
        return self._lock_path.read_text("utf-8", "replace").strip()[:20] or "unknown"

    @property
    def _lock_path(self) -> Path:
        return self._path.with_name(self._path.name + ".lock")


def _try(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
