"""What PostGrid's calls take, and the answer to what they refuse (postgrid.md, 1 to 4).

Stricter than known: unknown fields and unknown query parameters are refused; the real service may
take some of them.
"""

import re
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import orjson
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

EVENT_TYPES = (
    *(
        f"{kind}.{what}"
        for kind in (
            "letter",
            "postcard",
            "self_mailer",
            "cheque",
            "box",
            "snap_pack",
            "return_envelope_order",
        )
        for what in ("created", "updated")
    ),
    "tracker.visited",
    "campaign.created",
    "campaign.updated",
    "virtual_mailbox_item.created",
)
"""The 18 of the SDK, 2.3.0 (postgrid.md, 4)."""

# Stricter than known: the documents name no maximum; a page above it may also be cut short.
MOST_ROWS = 100
DEFAULT_ROWS = 10

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_MAILING_CLASS = re.compile(
    r"first_class|standard_class|express|certified|certified_return_receipt|registered"
    r"|(usps|ca_post|ups_express|royal_mail)_[a-z0-9_]+|au_post_second_class"
)

JsonObject = dict[str, Any]
Contact = str | JsonObject
Text = Annotated[str, Field(min_length=1)]
Secret = Annotated[str, StringConstraints(pattern=r"^\S{20,}$")]


def _webhook_url(text: str) -> str:
    """Ask for https; more lenient than the real one: http on loopback, to try things out."""
    parts = urlsplit(text)
    if parts.scheme == "https" and parts.hostname:
        return text
    if parts.scheme == "http" and parts.hostname in _LOOPBACK:
        return text
    message = "must be a valid HTTPS URL"
    raise ValueError(message)


def _event_types(types: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [each for each in types if each not in EVENT_TYPES]
    if unknown:
        message = f"must be one of {', '.join(EVENT_TYPES)}"
        raise ValueError(message)
    return types


def _mailing_class(text: str) -> str:
    if _MAILING_CLASS.fullmatch(text) is None:
        message = "is no mailing class"
        raise ValueError(message)
    return text


WebhookUrl = Annotated[str, AfterValidator(_webhook_url)]
EventTypes = Annotated[
    tuple[str, ...], Field(min_length=1, strict=False), AfterValidator(_event_types)
]
MailingClass = Annotated[str, AfterValidator(_mailing_class)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    def sent(self) -> JsonObject:
        """Return what was sent."""
        return self.model_dump(by_alias=True, exclude_unset=True)


class TrackerBody(_Strict):
    """Of create and update, which asks for the same fields."""

    template: Annotated[str, Field(alias="redirectURLTemplate", min_length=1)]
    expire_days: Annotated[Literal[30, 60, 90, 180, 365], Field(alias="urlExpireAfterDays")]
    description: str | None = None
    metadata: JsonObject | None = None


class WebhookBody(_Strict):
    """Of create."""

    url: WebhookUrl
    enabled_events: Annotated[EventTypes, Field(alias="enabledEvents")]
    payload_format: Annotated[Literal["jwt", "json"], Field(alias="payloadFormat")] = "jwt"
    secret: Secret | None = None
    description: str | None = None
    metadata: JsonObject | None = None


class WebhookChange(_Strict):
    """Of update: any of those, and `enabled`."""

    url: WebhookUrl = ""
    enabled: bool = True
    enabled_events: Annotated[EventTypes, Field(alias="enabledEvents")] = ()
    payload_format: Annotated[Literal["jwt", "json"], Field(alias="payloadFormat")] = "jwt"
    secret: Secret = ""
    description: str | None = None
    metadata: JsonObject | None = None


class Note(_Strict):
    """Of a cancellation."""

    note: Text


class _Order(_Strict):
    to: Contact
    sender: Annotated[Contact | None, Field(alias="from")] = None
    description: str | None = None
    metadata: JsonObject | None = None
    merge_variables: Annotated[JsonObject | None, Field(alias="mergeVariables")] = None
    send_date: Annotated[str | None, Field(alias="sendDate")] = None
    mailing_class: Annotated[MailingClass | None, Field(alias="mailingClass")] = None
    express: bool | None = None


class _Certified(_Order):
    """Letters and cheques: the only ones with an extra service (SEED3)."""

    extra_service: Annotated[
        Literal["certified", "certified_return_receipt", "registered"] | None,
        Field(alias="extraService"),
    ] = None


def _one_of(order: BaseModel, *ways: tuple[str, ...]) -> None:
    """Ask for the content: all fields of one way to give it."""
    if not any(all(getattr(order, name) for name in way) for way in ways):
        aliases = {name: field.alias or name for name, field in type(order).model_fields.items()}
        told = ", or ".join(" and ".join(aliases[name] for name in way) for way in ways)
        message = f"you must supply {told}"
        raise ValueError(message)


class Letter(_Certified):
    """A letter: HTML, a template or a PDF."""

    sender: Annotated[Contact, Field(alias="from")]
    html: str | None = None
    template: str | None = None
    pdf: str | None = None
    size: str | None = None
    color: bool | None = None
    double_sided: Annotated[bool | None, Field(alias="doubleSided")] = None
    address_placement: Annotated[str | None, Field(alias="addressPlacement")] = None
    perforated_page: Annotated[int | None, Field(alias="perforatedPage")] = None
    return_envelope: Annotated[str | None, Field(alias="returnEnvelope")] = None

    @model_validator(mode="after")
    def _content(self) -> "Letter":
        _one_of(self, ("html",), ("template",), ("pdf",))
        return self


class Postcard(_Order):
    """A postcard: both sides, as HTML, templates or a PDF."""

    size: Literal["6x4", "9x6", "11x6"]
    front_html: Annotated[str | None, Field(alias="frontHTML")] = None
    back_html: Annotated[str | None, Field(alias="backHTML")] = None
    front_template: Annotated[str | None, Field(alias="frontTemplate")] = None
    back_template: Annotated[str | None, Field(alias="backTemplate")] = None
    pdf: str | None = None

    @model_validator(mode="after")
    def _content(self) -> "Postcard":
        _one_of(self, ("front_html", "back_html"), ("front_template", "back_template"), ("pdf",))
        return self


class Cheque(_Certified):
    """A cheque."""

    sender: Annotated[Contact, Field(alias="from")]
    bank_account: Annotated[Text, Field(alias="bankAccount")]
    amount: Annotated[int, Field(ge=1)]
    memo: str | None = None
    number: int | None = None
    message: str | None = None
    logo: str | None = None
    currency_code: Annotated[Literal["USD", "CAD"] | None, Field(alias="currencyCode")] = None
    size: str | None = None


class SelfMailer(_Order):
    """A self-mailer: inside and outside."""

    sender: Annotated[Contact, Field(alias="from")]
    size: Literal["8.5x11_bifold", "8.5x11_trifold", "9.5x16_trifold"]
    inside_html: Annotated[str | None, Field(alias="insideHTML")] = None
    outside_html: Annotated[str | None, Field(alias="outsideHTML")] = None
    inside_template: Annotated[str | None, Field(alias="insideTemplate")] = None
    outside_template: Annotated[str | None, Field(alias="outsideTemplate")] = None
    pdf: str | None = None

    @model_validator(mode="after")
    def _content(self) -> "SelfMailer":
        templates = ("inside_template", "outside_template")
        _one_of(self, ("inside_html", "outside_html"), templates, ("pdf",))
        return self


class OtherOrder(_Order):
    """A snap pack or a box, whose own fields are not in the documents: anything goes."""

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)


class ReturnEnvelopeOrder(_Strict):
    """An order of so many copies of a return envelope."""

    quantity: Annotated[int, Field(alias="quantityOrdered", ge=1)]
    description: str | None = None
    metadata: JsonObject | None = None


OrderBody = Letter | Postcard | Cheque | SelfMailer | OtherOrder


class Query(BaseModel):
    """What a listing can be asked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[int, Field(ge=1, le=MOST_ROWS)] = DEFAULT_ROWS
    skip: Annotated[int, Field(ge=0)] = 0
    search: str = ""

    def takes(self, row: JsonObject) -> bool:
        """Say whether a row is asked for: by a text somewhere in it, or by fields and values."""
        if not self.search:
            return True
        try:
            wanted = orjson.loads(self.search)
        except orjson.JSONDecodeError:
            wanted = self.search
        if isinstance(wanted, dict):
            return all(_at(row, path) == value for path, value in wanted.items())
        return str(wanted).lower() in orjson.dumps(row).decode().lower()


class EventQuery(BaseModel):
    """The same of events, which cannot be searched."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: Annotated[int, Field(ge=1, le=MOST_ROWS)] = DEFAULT_ROWS
    skip: Annotated[int, Field(ge=0)] = 0
    type: str = ""

    def takes(self, row: JsonObject) -> bool:
        """Say whether an event is of one of the types asked for."""
        return not self.type or row["type"] in self.type.split(",")


def first_issue(error: ValidationError) -> str:
    """Say what is wrong with the first wrong field, without repeating the value."""
    issue = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in issue["loc"])[:200]
    message = issue["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


def _at(row: Any, path: str) -> Any:
    for part in path.split("."):
        row = row.get(part) if isinstance(row, dict) else None
    return row
