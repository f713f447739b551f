"""What a Dub destination can be set to."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from gateway.deliver.settings import BaseUrl, DestinationSettings, Seconds, Secret

PaymentProcessor = Literal[
    "stripe", "shopify", "polar", "paddle", "apple", "revenuecat", "lemonsqueezy", "dub", "custom"
]
_OF_2024 = frozenset({"stripe", "shopify", "paddle"})


class DubSettings(DestinationSettings):
    """One Dub workspace, by its key."""

    kind: Literal["dub"]
    base_url: BaseUrl = "https://api.dub.co"
    api_key: Secret
    dialect: Literal["current", "2024"] = "current"
    """Today's API, or that of the Python SDK 0.10.6 to 0.14.0 (October and November 2024)."""
    lead_mode: Literal["async", "wait", "deferred"] = "wait"
    """For leads that name none; 2024 has no modes. With `wait` a sale right after the lead finds
    it; with `async` it may have to wait until Dub has taken the lead in."""
    # The default is checked too: there is no good one for 2024.
    payment_processor: Annotated[PaymentProcessor, Field(validate_default=True)] = "custom"
    """For sales that name none. 2024 asks for one of three."""
    unattributed_wait_seconds: Seconds = 3600.0
    """How long a sale waits for its customer or lead to become known."""
    unanswered_wait_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 60.0
    """How long a sale whose request had no answer waits before it is sent again: Dub, at work on
    two of one invoice at once, records both. Not of `dialect = "2024"`, which knows no invoice."""
    events: tuple[Literal["lead", "sale", "customer"], ...] = ("lead", "sale", "customer")
    batch_events: Literal[1] = 1
    """Dub has no batches."""
    rate_per_second: Annotated[float, Field(gt=0)] = 19.5
    """The Business plan allows 1,200 requests in any minute per key: 60 times this and a
    burst stay just below. The Advanced plan's 3,000 leave room for 49."""
    concurrency: Annotated[int, Field(ge=1, le=256)] = 10

    @field_validator("payment_processor")
    @classmethod
    def _known_to_the_dialect(cls, value: str, info: ValidationInfo) -> str:
        if info.data.get("dialect") == "2024" and value not in _OF_2024:
            raise ValueError('must be "stripe", "shopify" or "paddle" with dialect = "2024"')
        return value
