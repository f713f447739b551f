"""From sources to settings: read, validate, check, and tell every problem at once."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from gateway.settings import checks
from gateway.settings.problems import ConfigurationError, Place, Problem, problem_of
from gateway.settings.sections import Settings, known_names
from gateway.settings.sources import Raw, read

_BY_NAME = {"sites", "destinations", "sources"}
"""Sections whose entries have names chosen by people."""
_KIND_AT = {"buffer": 1, "destinations": 2}
"""Where in an error's place pydantic puts a union's kind."""


@dataclass(slots=True, frozen=True)
class Examined:
    """What was found: settings if they can be used, and every problem, warnings too."""

    settings: Settings | None
    problems: tuple[Problem, ...]
    file: Path | None
    """The TOML file that was read; None when there was none."""

    @property
    def errors(self) -> tuple[Problem, ...]:
        """What must be mended."""
        return tuple(each for each in self.problems if each.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """What works, but is hardly meant."""
        return tuple(each for each in self.problems if each.severity == "warning")


def examine(path: Path | None, environment: Mapping[str, str] | None = None) -> Examined:
    """Read the configuration and judge it. `environment` is the process's own if not given."""
    raw = read(path, environment)
    settings, broken, found = _validate(raw)
    subject = checks.Subject(
        settings,
        frozenset(set(Settings.model_fields) - {place[0] for place in broken}),
        frozenset(_table(raw.values, "destinations")),
    )
    for place, problem in checks.problems_of(subject):
        if place not in broken:  # what stands there now is only the default
            found.append(replace(problem, source=raw.source(place)))
    problems = (*raw.problems, *found)
    failed = any(problem.severity == "error" for problem in problems)
    return Examined(None if failed else settings, problems, raw.file)


def load(
    path: Path | None,
    environment: Mapping[str, str] | None = None,
    warn: Callable[[Problem], None] | None = None,
) -> Settings:
    """Return the settings; `warn` is told of each warning.

    Raises ConfigurationError with every problem there is.
    """
    examined = examine(path, environment)
    if examined.settings is None:
        raise ConfigurationError(examined.errors)
    if warn is not None:
        for problem in examined.warnings:
            warn(problem)
    return examined.settings


def _validate(raw: Raw) -> tuple[Settings, set[Place], list[Problem]]:
    """Return what is valid, the places that are not, and why.

    What is broken is taken out until the rest is valid, so that it can be checked as a whole.
    """
    values = copy.deepcopy(raw.values)
    broken: set[Place] = set()
    problems: list[Problem] = []
    while True:
        try:
            return Settings.model_validate(values), broken, problems
        except ValidationError as error:
            errors = error.errors(include_url=False)
        places = [_place(each) for each in errors]
        if not broken:  # later errors only follow from what was taken out
            problems = [
                _problem(raw, each, place) for each, place in zip(errors, places, strict=True)
            ]
        for place in places:
            at = place[: 3 if place[0] in _BY_NAME else 2]
            broken.add(at)
            _take_out(values, at)


def _problem(raw: Raw, error: ErrorDetails, place: Place) -> Problem:
    entry = _table(raw.values, place[0])
    if place[0] in _BY_NAME and len(place) > 1:
        entry = _table(entry, place[1])
    known = known_names(place[:-1], entry.get("kind"))
    return problem_of(error, place, raw.source(place), known)


def _place(error: ErrorDetails) -> Place:
    """Return where the error is, without what pydantic adds: a union's kind, `[key]`."""
    parts = [str(part) for part in error["loc"]]
    if parts[0] in _KIND_AT:
        del parts[_KIND_AT[parts[0]] : _KIND_AT[parts[0]] + 1]
    return tuple(part for part in parts if part != "[key]")


def _table(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = values.get(name)
    return found if isinstance(found, Mapping) else {}


def _take_out(values: dict[str, Any], place: Place) -> None:
    """Remove what stands at `place`; where nothing does, the table that lacks it."""
    path = [values]
    for part in place[:-1]:
        below = path[-1].get(part)
        if not isinstance(below, dict):
            break
        path.append(below)
    depth = len(path) - 1
    if place[depth] in path[-1]:
        del path[-1][place[depth]]
    elif depth:
        path[-2].pop(place[depth - 1], None)
