"""Why an event is refused, in words for whoever has to mend the shop's code."""

from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from gateway.model.event import FIELDS, MAX_DEPTH, METADATA_CHARACTERS, TYPES
from gateway.model.outcome import Rejection

_LONGEST_NAME = 100
"""A field's name in an answer is cut here: unknown ones are the sender's invention."""


@dataclass(slots=True, frozen=True)
class Refusal:
    """A reason, the field that it is about, and what to do."""

    reason: Rejection
    field: str | None
    message: str


def refusal_of(error: ValidationError, above: str = "") -> Refusal:
    """Turn the first thing that pydantic found into a refusal.

    `above` is the path of what was validated, `context` for a context, empty for an event.
    """
    found = error.errors(include_url=False, include_input=False)[0]
    kind = found["type"]
    place = list(found["loc"])
    if not above and place:
        del place[0]  # the tag of the union: the event's type
    if place and place[-1] == "[key]":
        kind = f"key_{kind}"
        del place[-1]
    path = _path([above, *place] if above else place)
    if kind in _UNTYPED:
        return _UNTYPED[kind]
    reason, words = _WORDS.get(kind) or _fallback(kind)
    details = {"field": path, "hint": _hint(path, kind), **found.get("ctx", {})}
    return Refusal(reason, path, words.format(**details))


def _path(place: list[Any]) -> str:
    """`["recent", 0, "itemId"]` is `recent[0].itemId`."""
    path = ""
    for step in place:
        path += f"[{step}]" if isinstance(step, int) else f".{step}"
    return path[1 : _LONGEST_NAME + 1]


def _fallback(kind: str) -> tuple[Rejection, str]:
    """Words for all of pydantic's `…_type` errors, and for any that this page does not name."""
    wanted = _JSON_TYPES.get(kind)
    if wanted:
        return Rejection.WRONG_TYPE, "{field} must be " + wanted + ".{hint}"
    return Rejection.BAD_VALUE, "{field} has a value that is not allowed; see /openapi.json."


def _hint(path: str, kind: str) -> str:
    if kind == "extra_forbidden":
        return _did_you_mean(path)
    return _HINTS.get((path.rpartition(".")[2], kind), "")


def _did_you_mean(path: str) -> str:
    plain = path.rpartition(".")[2].lower().replace("_", "").replace("-", "")
    for name in FIELDS:
        if name.lower() == plain and name != path:
            return f" Did you mean {name}?"
    return ""


_ONE_OF = ", ".join(TYPES)
_UNTYPED = {
    "union_tag_not_found": Refusal(
        Rejection.MISSING_FIELD, "type", f"Say what the event is: type is one of {_ONE_OF}."
    ),
    "union_tag_invalid": Refusal(
        Rejection.UNKNOWN_TYPE, "type", f"The type is not known; it is one of {_ONE_OF}."
    ),
    "model_attributes_type": Refusal(
        Rejection.NOT_AN_OBJECT, None, "An event is a JSON object; this is not one."
    ),
}
_JSON_TYPES = {
    "string_type": "a string",
    "int_type": "an integer",
    "bool_type": "true or false",
    "dict_type": "an object",
    "list_type": "an array",
}
_WORDS = {
    "missing": (Rejection.MISSING_FIELD, "Add {field}; an event of this type needs it."),
    "extra_forbidden": (
        Rejection.UNKNOWN_FIELD,
        "{field} is not a field here; leave it out, or put it into metadata.{hint}",
    ),
    "string_too_long": (
        Rejection.OVER_LIMIT,
        "{field} may have {max_length} characters at most; shorten it.",
    ),
    "string_too_short": (
        Rejection.BAD_VALUE,
        "{field} is empty; give it a value, or send null for none where it is optional.",
    ),
    "too_long": (Rejection.OVER_LIMIT, "{field} may have {max_length} entries at most."),
    "less_than_equal": (Rejection.OVER_LIMIT, "{field} may be {le} at most.{hint}"),
    "greater_than_equal": (Rejection.OVER_LIMIT, "{field} must be {ge} or more.{hint}"),
    "literal_error": (Rejection.BAD_VALUE, "{field} must be one of {expected}."),
    "string_pattern_mismatch": (Rejection.BAD_VALUE, "{field} {hint}."),
    "key_string_too_long": (
        Rejection.OVER_LIMIT,
        "{field}: the name may have {max_length} characters at most; shorten it.",
    ),
    "key_string_too_short": (Rejection.BAD_VALUE, "{field} has an empty name; give it one."),
    "key_string_pattern_mismatch": (
        Rejection.BAD_VALUE,
        "{field}: the name must begin with utm_; other parameters have no place here.",
    ),
    "email": (
        Rejection.BAD_VALUE,
        "{field} is not an e-mail address that Dub takes; send one like ann@shop.example, or null.",
    ),
    "too_deep": (
        Rejection.TOO_DEEP,
        f"{{field}} nests too deep; a request may have {MAX_DEPTH} levels. Flatten it.",
    ),
    "metadata_too_long": (
        Rejection.OVER_LIMIT,
        f"{{field}} has {{characters}} characters as compact JSON; {METADATA_CHARACTERS} may go.",
    ),
}
_AMOUNT = " Amounts are whole numbers of the currency's minor unit: 4990 is 49.90 SEK."
_HINTS = {
    ("amount", "int_type"): _AMOUNT,
    ("amount", "less_than_equal"): _AMOUNT,
    ("amount", "greater_than_equal"): (
        " A refund is no sale: send it as a custom event, or in metadata."
    ),
    ("id", "string_pattern_mismatch"): (
        "must be visible ASCII without spaces, such as a UUID, and not empty"
    ),
    ("currency", "string_pattern_mismatch"): "must be three letters, such as SEK (ISO 4217)",
    ("country", "string_pattern_mismatch"): "must be two letters, such as SE (ISO 3166)",
}
