"""Instants: integer milliseconds since the epoch inside, ISO 8601 with a zone outside."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class TimeWithoutZoneError(ValueError):
    """The text is a time, but says nothing of its zone, so it names no instant."""


def moment_of(text: str) -> datetime:
    """Read ISO 8601 with a zone designator.

    Raises TimeWithoutZoneError without a zone, ValueError when it is no time at all.
    """
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise TimeWithoutZoneError(text)
    return moment


def parse_microseconds(text: str) -> int:
    """Read ISO 8601 with a zone designator; microseconds since the epoch. Raises as `moment_of`."""
    return (moment_of(text) - EPOCH) // _MICROSECOND


def parse_ms(text: str) -> int:
    """Read ISO 8601 with a zone designator; milliseconds since the epoch."""
    return parse_microseconds(text) // 1000


def format_ms(instant_ms: int, *, whole_seconds: bool = False) -> str:
    """Write an instant in UTC, as `2026-11-21T10:15:00.120Z`, or without the fraction."""
    moment = EPOCH + timedelta(milliseconds=instant_ms)
    spec = "seconds" if whole_seconds else "milliseconds"
    return moment.replace(tzinfo=None).isoformat(timespec=spec) + "Z"
