"""What is wrong with a configuration, said so that the reader can mend it at once."""

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic_core import ErrorDetails

Place = tuple[str, ...]
"""Where a setting stands: `("destinations", "voyado", "base_url")`."""


@dataclass(slots=True, frozen=True)
class Problem:
    """One thing that is wrong, where, and what would be right. Never holds a secret's value."""

    place: str
    """The setting's name, dotted; the file's or folder's where the trouble is the file itself."""
    message: str
    remedy: str
    source: str = ""
    """Where it was set: `file:line`, a variable, a secret's file; empty where nothing set it."""
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        where = f"{self.place} ({self.source})" if self.source else self.place
        return f"{where}: {self.message}; {self.remedy}"


class ConfigurationError(Exception):
    """The configuration cannot be used; `problems` holds everything that is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


_FORMS = {
    "origins": "write it as browsers send it: https://shop.example, lower case, no path or slash",
    "currency": "write three letters, for example sek",
    "user_agent": "write Product/Version, for example Gateway/1.0",
    "servers": "write host:port, for example kafka:9092",
    "topic_prefix": "use letters, digits, ., _ and -, for example gateway.",
    "path_prefix": "write a path like /api/v2/tracking, without a slash at its end",
    "trackers": "write ids as PostGrid shows them: tracker_…",
    "ids": "write where an order's metadata holds it: metadata.customerId",
    "[key]": "use letters, digits, - and _, at most 64",
}
"""What is right where a pattern decides, by the setting's name."""

_SHOWN = {
    "literal_error",
    "union_tag_invalid",
    "greater_than",
    "greater_than_equal",
    "less_than",
    "less_than_equal",
    "int_parsing",
    "int_from_float",
    "float_parsing",
    "bool_parsing",
}
"""Errors whose input is shown: those of numbers and closed sets, which are never secrets."""

_STRUCTURES = {
    "tuple_type": 'write a list: ["one", "two"], in a variable too',
    "dict_type": 'write a table: {name = "value"}; in a variable {"name": "value"}',
    "model_type": "write a table of settings",
    "model_attributes_type": "write a table of settings",
}
"""What is right where something else than a plain value belongs, by the error's type."""

_SHOWN_CHARACTERS = 60


def problem_of(error: ErrorDetails, place: Place, source: str, known: Collection[str]) -> Problem:
    """Put a validation error into words. `known` are the names that its table may hold."""
    name = ".".join(place)
    if error["type"] == "missing":
        return Problem(name, "is missing", _add(place), source)
    if error["type"] == "extra_forbidden":
        return Problem(name, "is no setting", _nearest(place, known), source)
    return Problem(name, _found(error), _right(error, place), source)


def variable_of(place: Place) -> str:
    """Return the name of the environment variable that sets what stands at `place`."""
    return "GATEWAY_" + "__".join(part.upper().replace("-", "_") for part in place)


def _add(place: Place) -> str:
    return f"set {place[-1]} under [{'.'.join(place[:-1])}], or {variable_of(place)}"


def _nearest(place: Place, known: Collection[str]) -> str:
    names = sorted(known)
    close = difflib.get_close_matches(place[-1], names, n=1)
    if close:
        return f"did you mean {close[0]}?"
    return f"known here: {', '.join(names)}" if names else "remove it"


def _found(error: ErrorDetails) -> str:
    if error["type"] == "union_tag_not_found":
        return "does not say which kind it is"
    if error["type"] == "value_error":
        return "is not right"
    value: Any = error.get("input")
    if error["type"] == "union_tag_invalid":
        value = error.get("ctx", {}).get("tag")
    if error["type"] in _SHOWN and isinstance(value, int | float | str):
        return f"is {str(value)[:_SHOWN_CHARACTERS]!r}" if isinstance(value, str) else f"is {value}"
    return "is not right"


def _right(error: ErrorDetails, place: Place) -> str:
    if error["type"].startswith("union_tag"):
        expected = error.get("ctx", {}).get("expected_tags", "'voyado', 'dub', 'webhook' or 'file'")
        return f"kind should be one of {expected}"
    if error["type"] == "string_pattern_mismatch":
        names = ("[key]",) if error["loc"][-1] == "[key]" else reversed(place)
        for name in names:
            if name in _FORMS:
                return _FORMS[name]
    if error["type"] in _STRUCTURES:
        return _STRUCTURES[error["type"]]
    message = error["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return message[:1].lower() + message[1:]
