"""A process that publishes to the embedded log, for tests that kill it or take its disk away.

    publish FILE COUNT    one after another, then exit
    forever FILE          from eight callers, until killed
    limited FILE          until a limit on file sizes stops it; then again without the limit
    small FILE BALLAST    until the disk is full; then again after BALLAST is removed

Each acknowledged record is a line "offset value" on the standard output.
"""

import asyncio
import resource
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

from gateway.adapters.sqlite import SqliteBuffer, SqliteSettings
from gateway.model.window import DedupSettings
from gateway.ports import BufferFullError, BufferUnavailableError, Draft, Log

LIMIT_BYTES = 3 << 20


class StillClock:
    def now_ms(self) -> int:
        return 1_700_000_000_000


async def publish(buffer: SqliteBuffer, value: str, size: int = 0) -> None:
    drafts = [Draft(0, value.encode().ljust(size, b"."))]
    (offset,) = await buffer.publish(Log.EVENTS, drafts)
    print(offset, value, flush=True)  # noqa: T201 - what the test reads


async def call(buffer: SqliteBuffer, name: int) -> None:
    for number in count():
        await publish(buffer, f"{name}:{number}")


async def until_unavailable(buffer: SqliteBuffer, mend: Callable[[], None]) -> None:
    try:
        for number in count():
            await publish(buffer, f"{number}", 50_000)
    except BufferFullError:
        sys.exit("max_bytes was in the way")
    except BufferUnavailableError as error:
        print("unavailable:", error, flush=True)  # noqa: T201 - what the test reads
    mend()
    await publish(buffer, "again", 500_000)


def unlimit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def limit() -> None:
    hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, hard))


async def main(mode: str, path: Path, argument: str = "") -> None:
    buffer = SqliteBuffer(SqliteSettings(path=path), StillClock(), [], DedupSettings())
    await buffer.start()
    match mode:
        case "publish":
            for number in range(int(argument)):
                await publish(buffer, str(number))
        case "forever":
            await asyncio.gather(*(call(buffer, name) for name in range(8)))
        case "limited":
            limit()
            await until_unavailable(buffer, unlimit)
        case "small":
            await until_unavailable(buffer, Path(argument).unlink)
        case _:
            sys.exit(__doc__)
    await buffer.stop()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:]))
