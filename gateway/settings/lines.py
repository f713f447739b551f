"""On which line of a TOML file a setting stands. `tomllib` does not say."""

import re
import tomllib
from collections.abc import Iterator

_PART = r"""(?:[A-Za-z0-9_-]+|"[^"\n]*"|'[^'\n]*')"""
_NAME = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"^\s*\[\[?\s*({_NAME})\s*\]\]?")
_KEY = re.compile(rf"^\s*({_NAME})\s*=")
_MULTI_LINE = re.compile(r'"""|' + "'''")


def lines_of(text: str) -> dict[tuple[str, ...], int]:
    """Map each table and key of a valid TOML text to the line where it first stands, from 1.

    Keys inside inline tables are not looked for: their table's line is near enough.
    """
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in _outside_long_strings(text):
        if header := _HEADER.match(line):
            table = _parts(header[1])
            _note(found, table, number)
        elif key := _KEY.match(line):
            _note(found, table + _parts(key[1]), number)
    return found


def line_of_error(error: tomllib.TOMLDecodeError) -> int | None:
    """Return the line that a syntax error names in its message; None for "end of document"."""
    named = re.search(r"at line (\d+)", str(error))
    return int(named[1]) if named else None


def _note(found: dict[tuple[str, ...], int], place: tuple[str, ...], number: int) -> None:
    for end in range(1, len(place) + 1):
        found.setdefault(place[:end], number)


def _parts(name: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(_PART, name))


def _outside_long_strings(text: str) -> Iterator[tuple[int, str]]:
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if not inside:
            yield number, line
        if len(_MULTI_LINE.findall(line)) % 2:
            inside = not inside
