"""What Dub's tracking endpoints take, and the answer to what they refuse (dub.md, 1b and 2).

Field names, limits, defaults and the order of the fields (only the first issue is reported, in that
order) are the real service's; unknown keys are dropped, as there. The texts after the issue's code
and path are like the real ones, not promised to be the same.

Stricter than known: whole numbers written as ``5.0`` are refused, for JSON parsed in Python tells
them from ``5``.
"""

import re
from typing import Annotated, Any, Literal

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
)
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError

METADATA_CHARACTERS = 10_000
"""Of metadata as compact JSON."""

_GREATEST_INTEGER = 2**53 - 1
_EMAIL = re.compile(
    r"(?!\.)(?!.*\.\.)[A-Z0-9_'+\-.]*[A-Z0-9_+-]@([A-Z0-9][A-Z0-9-]*\.)+[A-Z]{2,}", re.IGNORECASE
)
"""What zod takes for an address."""


def _utf16_length(text: str) -> int:
    """Count as JavaScript does, where the limits are enforced."""
    return len(text.encode("utf-16-le")) // 2


def at_most(characters: int) -> AfterValidator:
    """Limit a text's length."""

    def check(text: str) -> str:
        if _utf16_length(text) > characters:
            message = "Too big: expected string to have <={limit} characters"
            raise PydanticCustomError("too_big", message, {"limit": characters})
        return text

    return AfterValidator(check)


def _email(text: str) -> str:
    if not text.isascii() or _EMAIL.fullmatch(text) is None:
        raise PydanticCustomError("invalid_format", "Invalid email address")
    return text


def _metadata(value: dict[str, Any]) -> dict[str, Any]:
    try:
        text = orjson.dumps(value).decode()
    except orjson.JSONEncodeError:
        # Stricter than known: nested more than 254 deep.
        raise PydanticCustomError("custom", "Metadata is nested too deep") from None
    if _utf16_length(text) > METADATA_CHARACTERS:
        message = "Metadata must be less than 10,000 characters when stringified"
        raise PydanticCustomError("custom", message)
    return value


Trimmed = Annotated[str, StringConstraints(strip_whitespace=True)]
Name = Annotated[str, at_most(100)]
Email = Annotated[str, at_most(100), AfterValidator(_email)]
Metadata = Annotated[dict[str, Any], AfterValidator(_metadata)]


class Body(BaseModel):
    """Unknown keys are dropped; nothing is coerced."""

    model_config = ConfigDict(
        extra="ignore", strict=True, frozen=True, alias_generator=to_camel, validate_by_name=False
    )


def _first(*names: str | None) -> str:
    """Pick the customer's name as the server does (dub.md, 1d): the first that is not empty."""
    return next((name for name in names if name), "")


class Lead(Body):
    """Body of ``POST /track/lead``."""

    click_id: Trimmed | None = None
    event_name: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), at_most(255)]
    customer_external_id: Trimmed | None = None
    customer_name: Name | None = None
    customer_email: Email | None = None
    customer_avatar: str | None = None
    mode: Literal["async", "wait", "deferred"] = "async"
    event_quantity: Annotated[int, Field(ge=1, le=100)] | None = None
    metadata: Metadata | None = None
    external_id: Trimmed | None = None
    customer_id: Trimmed | None = None

    @property
    def customer(self) -> str:
        """The shop's name for the customer; empty if none was sent."""
        return _first(self.customer_external_id, self.external_id, self.customer_id)


class Sale(Body):
    """Body of ``POST /track/sale``."""

    customer_external_id: Trimmed | None = None
    amount: int = Field(ge=0, le=_GREATEST_INTEGER)
    currency: Annotated[str, AfterValidator(str.lower)] = "usd"
    event_name: Annotated[str, at_most(255)] = "Purchase"
    # Stricter than known: "lemonsqueezy" is in the SDKs, not in every server that was read.
    payment_processor: Literal[
        "stripe", "shopify", "polar", "paddle", "apple", "revenuecat", "lemonsqueezy", "dub",
        "custom",
    ] = "custom"  # fmt: skip
    invoice_id: str | None = None
    lead_event_name: str | None = None
    click_id: Trimmed | None = None
    customer_name: Name | None = None
    customer_email: Email | None = None
    customer_avatar: str | None = None
    metadata: Metadata | None = None
    external_id: Trimmed | None = None
    customer_id: Trimmed | None = None

    @property
    def customer(self) -> str:
        """The shop's name for the customer; empty if none was sent."""
        return _first(self.customer_external_id, self.external_id, self.customer_id)


def _address(text: str) -> str:
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:\S", text) is None:
        raise PydanticCustomError("invalid_format", "Invalid URL")
    return text


class CustomerChange(Body):
    """Body of ``PATCH /customers/{id}``: only what is sent is changed."""

    email: Annotated[str, AfterValidator(_email)] | None = None
    name: str | None = None
    avatar: Annotated[str, AfterValidator(_address)] | None = None
    external_id: str = ""
    stripe_customer_id: str | None = None
    country: str | None = None


class NewCustomer(Body):
    """Body of ``POST /customers``, which is in the source but not in the documentation."""

    external_id: Annotated[str, StringConstraints(min_length=1)]
    country: str
    email: Annotated[str, AfterValidator(_email)] | None = None
    name: str | None = None
    avatar: Annotated[str, AfterValidator(_address)] | None = None
    stripe_customer_id: str | None = None


_ISSUES: dict[str, tuple[str, str]] = {
    "missing": ("invalid_type", "Invalid input: {where} is required"),
    "string_type": ("invalid_type", "Invalid input: expected string"),
    "int_type": ("invalid_type", "Invalid input: expected number"),
    "dict_type": ("invalid_type", "Invalid input: expected record"),
    "model_type": ("invalid_type", "Invalid input: expected object"),
    "literal_error": ("invalid_value", "Invalid option"),
    "string_too_short": ("too_small", "{where} is required"),
    "greater_than_equal": ("too_small", "{where} is too small"),
    "greater_than": ("too_small", "{where} is too small"),
    "less_than_equal": ("too_big", "{where} is too big"),
}


def first_issue(error: ValidationError) -> str:
    """Say the first thing wrong as Dub does: ``too_small: eventName: eventName is required``."""
    issue = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(step) for step in issue["loc"])
    code, text = _ISSUES.get(issue["type"], (issue["type"], issue["msg"]))
    return ": ".join(part for part in (code, where, text.format(where=where)) if part)
