"""Reads what the settings are made of: a TOML file, secrets, environment; the later one wins.

Not pydantic-settings' own reader: below a name that people choose (`[destinations.voyado]`) it
reads every value as JSON if it can, so that an API key of digits alone becomes a number.
"""

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from gateway.settings.lines import line_of_error, lines_of
from gateway.settings.problems import Place, Problem
from gateway.settings.sections import Settings

PREFIX = "GATEWAY_"
NESTED = "__"
SECRETS_DIR = "GATEWAY_SECRETS_DIR"
DEFAULT_FILE = Path("config/gateway.toml")
_SECRET_BYTES = 65_536
_CONFIG_BYTES = 1_048_576


@dataclass(slots=True)
class Raw:
    """What was read, not yet judged, and where each part of it came from."""

    values: dict[str, Any] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    file: Path | None = None
    """The TOML file read, if any."""
    origins: dict[Place, str] = field(default_factory=dict)
    """Variables and secret files, by the setting that each of them set."""
    lines: dict[Place, int] = field(default_factory=dict)

    def source(self, place: Place) -> str:
        """Say where `place` was set, or else the closest thing around it; empty if nowhere."""
        for end in range(len(place), 0, -1):
            part = place[:end]
            if part in self.origins:
                return self.origins[part]
            if part in self.lines:
                return f"{self.file}:{self.lines[part]}"
        return ""


def read(path: Path | None, environment: Mapping[str, str] | None = None) -> Raw:
    """Read everything. Mistakes end up in `problems`; nothing is raised.

    With no `path`, `config/gateway.toml` is read if it is there.
    """
    environment = os.environ if environment is None else environment
    raw = Raw()
    if path is None and DEFAULT_FILE.is_file():
        path = DEFAULT_FILE
    if path is not None:
        _read_file(raw, path)
    for name, origin, text in _secrets(raw, environment.get(SECRETS_DIR)):
        _overlay(raw, name, origin, text)
    for name in sorted(environment):
        _overlay(raw, name, name, environment[name])
    return raw


def _read_file(raw: Raw, path: Path) -> None:
    raw.file = path
    try:
        with path.open("rb") as file:
            content = file.read(_CONFIG_BYTES + 1)
        if len(content) > _CONFIG_BYTES:
            raise ValueError(f"is larger than {_CONFIG_BYTES} bytes")
        text = content.decode("utf-8-sig")
        raw.values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = line_of_error(error)
        place = f"{path}:{line}" if line else str(path)
        raw.problems.append(Problem(place, "is not TOML", f"mend this: {error}"))
    except UnicodeDecodeError:
        raw.problems.append(Problem(str(path), "is not UTF-8", "save it as UTF-8"))
    except OSError as error:
        what = error.strerror or type(error).__name__
        raw.problems.append(Problem(str(path), what, "give a file that can be read"))
    except ValueError as error:
        raw.problems.append(Problem(str(path), str(error), "give a configuration file"))
    else:
        raw.lines = lines_of(text)


def _secrets(raw: Raw, folder: str | None) -> Iterator[tuple[str, str, str]]:
    """Yield name, origin and text of each file named like a variable, in any case of letters."""
    if not folder:
        return
    try:
        files = sorted(Path(folder).iterdir())
    except OSError as error:
        what = error.strerror or type(error).__name__
        raw.problems.append(Problem(folder, what, f"give {SECRETS_DIR} a folder that can be read"))
        return
    for file in files:
        if not file.name.upper().startswith(PREFIX) or not file.is_file():
            continue  # Kubernetes keeps folders and links of its own beside the files
        try:
            with file.open("rb") as opened:
                text = opened.read(_SECRET_BYTES).decode().rstrip("\r\n")
        except (OSError, UnicodeDecodeError):
            raw.problems.append(Problem(str(file), "cannot be read", "give it UTF-8 text"))
        else:
            yield file.name.upper(), str(file), text


def _overlay(raw: Raw, name: str, origin: str, text: str) -> None:
    """Put a variable's value where its name says."""
    if not name.startswith(PREFIX) or name == SECRETS_DIR:
        return
    if NESTED not in name:
        _suspect(raw, name, origin)
        return
    parts = name.removeprefix(PREFIX).split(NESTED)
    place: Place = ()
    table = raw.values
    for depth, part in enumerate(parts, 1):
        key = _existing(table, part)
        place = (*place, key)
        if depth == len(parts):
            table[key] = _value(text)
            raw.origins[place] = origin
            return
        below = table.setdefault(key, {})
        if not isinstance(below, dict):
            outer = ".".join(place)
            raw.problems.append(
                Problem(
                    outer, "is a value, so nothing can be set below it", f"unset {name}", origin
                )
            )
            return
        raw.origins.setdefault(place, origin) if not below else None
        table = below


def _suspect(raw: Raw, name: str, origin: str) -> None:
    """Warn of a variable that looks like a setting written with one underscore.

    Not an error: Kubernetes gives every pod `GATEWAY_PORT` and `GATEWAY_CONSOLE_SERVICE_HOST`, for
    services named `gateway` and `gateway-console`.
    """
    section, _, rest = name.removeprefix(PREFIX).partition("_")
    if section.lower() in Settings.model_fields and not rest.startswith(("SERVICE_", "PORT")):
        meant = f"{PREFIX}{section}{NESTED}{rest or 'NAME'}"
        raw.problems.append(
            Problem(
                name,
                "sets nothing",
                f"part section and name by two underscores: {meant}",
                origin if origin != name else "",
                severity="warning",
            )
        )


def _existing(table: Mapping[str, Any], part: str) -> str:
    """Find the key that is meant: variables know no small letters and no hyphens."""
    plain = part.lower()
    for key in table:
        if key.lower().replace("-", "_") == plain.replace("-", "_"):
            return key
    return plain


def _value(text: str) -> Any:
    """Read lists and tables, written as JSON; everything else is text, numbers too."""
    if text[:1] in "[{" and text:
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            return text
    return text
