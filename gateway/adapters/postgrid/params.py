"""What each call takes: one type a call, every parameter of the two documents.

A parameter's description is its help on the command line too. Where it goes (path, header, query,
body) follows from the call.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

import orjson
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    model_validator,
)

from gateway.adapters.postgrid.kinds import KIND, RETURN_ENVELOPE_ORDERS
from gateway.adapters.postgrid.settings import SECRET_CHARACTERS
from gateway.adapters.postgrid.wire import wire_name

MOST_ROWS = 100
"""Of a page. The documents name no maximum; clients of PostGrid's own keep to this one."""

_LARGEST = 2**53 - 1
"""What JSON's readers agree on."""

ExpireDays = Literal[30, 60, 90, 180, 365]
ExtraService = Literal["certified", "certified_return_receipt", "registered"]
PayloadFormat = Literal["jwt", "json"]
Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
Kind = Annotated[str, StringConstraints(pattern=KIND)]
JsonObject = dict[str, Any]
Contact = str | JsonObject


def _search(search: str | Mapping[str, Any] | None) -> str | None:
    return orjson.dumps(search).decode() if isinstance(search, Mapping) else search


Search = Annotated[str | JsonObject, PlainSerializer(_search)]
Names = Annotated[tuple[str, ...], PlainSerializer(",".join)]


class Params(BaseModel):
    """What a call takes; `wire()` is what goes out."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=wire_name, populate_by_name=True
    )

    def wire(self) -> dict[str, Any]:
        """Return what was set, by its name on the wire."""
        return self.model_dump(by_alias=True, exclude_unset=True, exclude_none=True)


class OfId(Params):
    """One thing by its id."""

    id: Id = Field(description="Its id.")


class Paged(Params):
    """A page of a listing."""

    limit: int | None = Field(
        default=None, ge=1, le=MOST_ROWS, description="Rows of the page; PostGrid's default is 10."
    )
    skip: int | None = Field(
        default=None, ge=0, le=_LARGEST, description="Rows to leave out before it."
    )


class Searched(Paged):
    """A page of a listing that can be searched."""

    search: Search | None = Field(
        default=None,
        description='Text, or JSON of fields and values: {"metadata.campaign": "autumn"}.',
    )


class SearchedOfId(Searched):
    """The same, of what belongs to one thing."""

    id: Id = Field(description="Its id.")


class TrackerFields(Params):
    """A tracker to be."""

    redirect_url_template: str = Field(
        min_length=1, description="Where its links lead; {{to.firstName}} and the like are filled."
    )
    url_expire_after_days: ExpireDays = Field(description="How long its links work.")
    description: str | None = Field(default=None, description="For people.")
    metadata: JsonObject | None = Field(default=None, description="What you like, as JSON.")


class TrackerUpdate(TrackerFields):
    """A tracker as it is to be from now on; address and days are required again."""

    id: Id = Field(description="Its id.")


class OfKind(Params):
    """Orders of one kind."""

    kind: Kind = Field(
        description="letters, postcards, cheques, self_mailers (or self-mailers, selfmailers), "
        "snap_packs, boxes, return_envelope_orders, or another that PostGrid has."
    )
    return_envelope: Id | None = Field(
        default=None, description="Of return_envelope_orders: the return envelope's id."
    )

    @model_validator(mode="after")
    def _whose(self) -> Self:
        if self.kind == RETURN_ENVELOPE_ORDERS and self.return_envelope is None:
            raise ValueError("return_envelope_orders are of one return envelope: say which")
        if self.kind != RETURN_ENVELOPE_ORDERS and self.return_envelope is not None:
            raise ValueError(f"{self.kind} are not those of a return envelope")
        return self


class OrderOfId(OfKind, OfId):
    """One order."""


class OrdersSearched(Searched, OfKind):
    """A page of one kind's orders."""


class OrderNote(OrderOfId):
    """One order, and why it is cancelled."""

    note: str = Field(min_length=1, description="Why.")


class OrderFields(OfKind):
    """An order to be. Which of the fields a kind needs is PostGrid's to say.

    A letter may have a return envelope too: one that comes with it.
    """

    idempotency_key: str | None = Field(
        default=None,
        pattern=r"^[\x21-\x7e]{1,255}$",
        description="Sent twice with one key, it is made once. One is made up if you give none.",
    )
    to: Contact | None = Field(
        default=None,
        description="A contact's id, or a contact as JSON; only return_envelope_orders have none.",
    )
    from_: Contact | None = Field(default=None, description="The same, of the sender.")
    size: str | None = Field(default=None, description="6x4, 9x6, 11x6, and so on.")
    html: str | None = Field(default=None, description="Of a letter.")
    template: str | None = Field(default=None, description="A template's id, of a letter.")
    pdf: str | None = Field(default=None, description="An address, in place of HTML or template.")
    front_html: str | None = Field(default=None, description="Of a postcard.")
    back_html: str | None = Field(default=None, description="Of a postcard.")
    front_template: str | None = Field(default=None, description="Of a postcard.")
    back_template: str | None = Field(default=None, description="Of a postcard.")
    inside_html: str | None = Field(default=None, description="Of a self-mailer.")
    outside_html: str | None = Field(default=None, description="Of a self-mailer.")
    inside_template: str | None = Field(default=None, description="Of a self-mailer.")
    outside_template: str | None = Field(default=None, description="Of a self-mailer.")
    bank_account: str | None = Field(default=None, description="Of a cheque: its id.")
    amount: int | None = Field(
        default=None, ge=1, le=_LARGEST, description="Of a cheque, in cents."
    )
    memo: str | None = Field(default=None, description="Of a cheque.")
    number: int | None = Field(default=None, ge=0, le=_LARGEST, description="Of a cheque.")
    send_date: str | None = Field(default=None, description="Not before this day or instant.")
    description: str | None = Field(default=None, description="For people.")
    extra_service: ExtraService | None = Field(
        default=None, description="Of letters and cheques; newer accounts use the mailing class."
    )
    mailing_class: str | None = Field(default=None, description="first_class, certified, …")
    quantity_ordered: int | None = Field(
        default=None, ge=1, le=_LARGEST, description="Of return_envelope_orders: how many."
    )
    metadata: JsonObject | None = Field(
        default=None, description="As JSON; here the ids go that the events are to carry."
    )
    merge_variables: JsonObject | None = Field(
        default=None, description="For the template, and for a tracker's redirect template."
    )
    fields: JsonObject | None = Field(
        default=None, description="Any other fields that this kind has, as JSON."
    )

    @model_validator(mode="after")
    def _whose(self) -> Self:
        if self.kind != RETURN_ENVELOPE_ORDERS and self.to is None:
            raise ValueError(f"{self.kind} go to somebody: say to whom")
        if self.kind == RETURN_ENVELOPE_ORDERS and self.return_envelope is None:
            raise ValueError("return_envelope_orders are of one return envelope: say which")
        return self


class WebhookFields(Params):
    """A webhook to be."""

    url: str = Field(min_length=1, description="Where to; https.")
    enabled_events: tuple[str, ...] = Field(min_length=1, description="letter.updated, …")
    payload_format: PayloadFormat | None = Field(default=None, description="Default: jwt.")
    secret: str | None = Field(
        default=None,
        min_length=SECRET_CHARACTERS,
        repr=False,
        description="Without it PostGrid makes one and shows it.",
    )
    description: str | None = Field(default=None, description="For people.")
    metadata: JsonObject | None = Field(default=None, description="What you like, as JSON.")


class WebhookUpdate(Params):
    """What is to change of a webhook."""

    id: Id = Field(description="Its id.")
    url: str | None = Field(default=None, min_length=1, description="Where to; https.")
    enabled: bool | None = Field(default=None, description="Whether it is called.")
    enabled_events: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="letter.updated, …"
    )
    payload_format: PayloadFormat | None = Field(
        default=None, description="Of later deliveries: jwt or json."
    )
    secret: str | None = Field(
        default=None, min_length=SECRET_CHARACTERS, repr=False, description="A new one."
    )
    description: str | None = Field(default=None, description="For people.")
    metadata: JsonObject | None = Field(default=None, description="What you like, as JSON.")


class EventsOfTypes(Paged):
    """A page of events; they cannot be searched."""

    type: Names | None = Field(default=None, description="Only these types: letter.updated, …")
