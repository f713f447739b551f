"""What a process uses, from /proc."""

import os
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU seconds of all its threads so far, and memory now."""

    cpu_seconds: float
    resident_mb: float


def usage_of(pid: int) -> Usage:
    """Read it. Ticks are 10 ms, so measure for seconds."""
    folder = Path("/proc") / str(pid)
    fields = (folder / "stat").read_text().rpartition(")")[2].split()
    pages = int((folder / "statm").read_text().split()[1])
    seconds = (int(fields[11]) + int(fields[12])) / _TICKS
    return Usage(seconds, pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
