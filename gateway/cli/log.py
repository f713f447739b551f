"""How log lines look: plain text, or JSON where a program reads them. Always on stderr."""

import asyncio
import logging
import sys
import time
from datetime import UTC, datetime
from typing import Literal

import orjson

from gateway.cli.ledger_text import plain

SELDOM_SECONDS = 30.0
LogFormat = Literal["text", "json"]


class _TextLines(logging.Formatter):
    """`10:15:00 events: http://127.0.0.1:8080`; from warnings on with the level.

    What came from outside can neither begin a line of its own nor steer a terminal.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s", "%H:%M:%S")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the library's name
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        return f"{record.asctime} {level}{plain(record.message)}"


class _JsonLines(logging.Formatter):
    """One object a line: `time`, `level`, `logger`, `message`, and `error` with a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return plain(orjson.dumps(line, default=str).decode())


class _OnceInAWhile(logging.Filter):
    """Lets a line with `extra={"seldom": True}` pass once in half a minute.

    It is about trouble that goes on, of which every partition of every destination tells.
    """

    def __init__(self) -> None:
        super().__init__()
        self._due: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not getattr(record, "seldom", False):
            return True
        now = time.monotonic()
        is_due = now >= self._due.get(record.msg, now)
        if is_due:
            self._due[record.msg] = now + SELDOM_SECONDS
        return is_due


def _is_no_race(record: logging.LogRecord) -> bool:
    """Leave out what aiohttp says when a request ends in the instant in which it gives it up.

    It is at the end of a process, and the request has been answered.
    """
    return not (record.exc_info and record.exc_info[0] is asyncio.InvalidStateError)


def set_up(log_format: LogFormat) -> None:
    """Log what the gateway says from INFO on, what its libraries say from WARNING on.

    Never one line a request: aiohttp's access log is below its level.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_JsonLines() if log_format == "json" else _TextLines())
    handler.addFilter(_OnceInAWhile())
    logging.getLogger("aiohttp.server").addFilter(_is_no_race)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("gateway").setLevel(logging.INFO)
