"""What a PostGrid source can be set to: `[sources.NAME]` with `kind = "postgrid"`."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, StringConstraints

from gateway.deliver.settings import BaseUrl, Seconds, Secret

SECRET_CHARACTERS = 20
"""PostGrid takes no shorter webhook secret (postgrid.md, 4)."""


def _webhook_secret(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value()) < SECRET_CHARACTERS:
        raise ValueError(f"must have at least {SECRET_CHARACTERS} characters, as PostGrid's have")
    return secret


WebhookSecret = Annotated[Secret, AfterValidator(_webhook_secret)]
TrackerId = Annotated[str, StringConstraints(pattern=r"^tracker_[A-Za-z0-9_-]{1,90}$")]
MetadataPath = Annotated[str, StringConstraints(pattern=r"^metadata(\.[^.\s]{1,100}){1,8}$")]
IdName = Literal["customerId", "contactId", "visitorId", "clickId", "mailReference"]
"""The ids that an order's metadata may hold: fields of the event, by their names on the wire."""


def _own_names() -> dict[IdName, MetadataPath]:
    return {
        "customerId": "metadata.customerId",
        "contactId": "metadata.contactId",
        "mailReference": "metadata.mailReference",
    }


class PostgridSettings(BaseModel):
    """One PostGrid account in one mode: a key sees only what is of its own mode."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["postgrid"]
    site: str
    """Whose events they become."""
    base_url: BaseUrl = "https://api.postgrid.com"
    api_key: Secret
    webhook_secrets: tuple[WebhookSecret, ...] = ()
    """Any of them will do, so that one can be replaced by another without a gap."""
    webhook_age_seconds: Seconds = 43_200.0
    """A webhook signed longer ago is refused. PostGrid's last retry comes after 7 hours."""
    trackers: tuple[TrackerId, ...] = ()
    """Only these are polled; empty: all there are."""
    poll_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 300.0
    """From one poll to the next; 0: never, webhooks alone."""
    rate_per_second: Annotated[float, Field(gt=0)] = 5.0
    """Requests. What PostGrid allows is not published; above it, it answers 429."""
    timeout_seconds: Seconds = 30.0
    ids: dict[IdName, MetadataPath] = Field(default_factory=_own_names)
    """Where an order holds the ids of its recipient."""
