"""What PostGrid answers, typed: the fields of the two documents (postgrid.md, 1 to 4).

Only ids are insisted on, and fields that are not named here are kept: what PostGrid adds, or leaves
out of an old resource, must not stop a poll; nor must a value of another type, which reads as if it
were not there. Instants stay text, as PostGrid wrote them.
"""

from typing import Any, Generic, Literal, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    field_validator,
)

from gateway.adapters.postgrid.wire import wire_name


class Answer(BaseModel):
    """Any object of PostGrid's; `wire()` gives it back as it came."""

    model_config = ConfigDict(
        extra="allow",
        frozen=True,
        alias_generator=wire_name,
        populate_by_name=True,
        coerce_numbers_to_str=True,
    )

    @field_validator("*", mode="wrap")
    @classmethod
    def _fitting(
        cls, value: object, check: ValidatorFunctionWrapHandler, info: ValidationInfo
    ) -> object:
        """Take the default in place of what does not fit, where there is one."""
        try:
            return check(value)
        except ValidationError:
            field = cls.model_fields[info.field_name or ""]
            if field.is_required():
                raise
            return field.get_default(call_default_factory=True)

    def wire(self) -> dict[str, Any]:
        """Return every field that came and fits, by its name on the wire."""
        return self.model_dump(mode="json", by_alias=True, exclude_unset=True)


class Thing(Answer):
    """What has an id."""

    id: str


Item = TypeVar("Item", bound=Thing)
Metadata = dict[str, Any]


class Page(Answer, Generic[Item]):
    """One page of a listing."""

    limit: int
    skip: int
    total_count: int
    data: list[Item]


class Tracker(Thing):
    """A mail tracker."""

    live: bool | None = None
    redirect_url_template: str = ""
    url_expire_after_days: int | None = None
    visit_count: int | None = None
    unique_visit_count: int | None = None
    description: str | None = None
    metadata: Metadata | None = None
    created_at: str = ""
    updated_at: str = ""


class Visit(Thing):
    """Somebody followed the link of one mail piece."""

    live: bool | None = None
    tracker: str = ""
    order_id: str = ""
    """Opaque; `kind_of` guesses the kind of order."""
    device: str = ""
    """Free text, or "Device Unknown"."""
    ip_address: str = ""
    """Not always an address: "Unknown IP Address" too."""
    created_at: str = ""
    updated_at: str = ""


class Order(Thing):
    """A mail piece of any kind. `to` and `from` are contacts or their ids, and stay unread."""

    object: str = ""
    """Its kind in the singular; a webhook's order may lack it (`kind_of` tells it by the id)."""
    live: bool | None = None
    status: str | None = None
    imb_status: str | None = None
    imb_date: str | None = None
    imb_zip_code: str | None = None
    tracking_number: str | None = None
    extra_service: str | None = None
    mailing_class: str | None = None
    send_date: str | None = None
    description: str | None = None
    metadata: Metadata | None = None
    cancellation: dict[str, Any] | None = None
    created_at: str = ""
    updated_at: str = ""


class Webhook(Thing):
    """A subscription to events."""

    live: bool | None = None
    url: str = ""
    enabled: bool | None = None
    enabled_events: list[str] = Field(default_factory=list)
    payload_format: str = ""
    secret: str | None = Field(default=None, repr=False)
    description: str | None = None
    metadata: Metadata | None = None
    created_at: str = ""
    updated_at: str = ""


class Invocation(Thing):
    """One delivery of a webhook."""

    webhook: str = ""
    event: str | None = None
    type: str = ""
    status_code: int | None = None
    order_id: str | None = None
    created_at: str = ""
    updated_at: str = ""


class Event(Thing):
    """What happened; made whenever a webhook is triggered, so there is none without a webhook."""

    type: str
    live: bool | None = None
    data: dict[str, Any] | None = None
    """The resource, as it was then."""
    updated_fields: dict[str, Any] | list[Any] | None = None
    created_at: str = ""


class Deleted(Thing):
    """What is left of something deleted."""

    deleted: Literal[True]
