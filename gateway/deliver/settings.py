"""What every destination can be set to; each destination's own settings type adds to it."""

from ipaddress import ip_address
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr

EventType = Literal[
    "page", "product", "cart", "lead", "sale", "customer", "custom", "mail_visit", "mail_order"
]
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _base_url(text: str) -> str:
    """Check an address that paths are added to; without its trailing slash."""
    url = urlsplit(text)
    if url.scheme == "http" and not _is_loopback(url.hostname or ""):
        raise ValueError("must be https (http only on loopback)")
    if url.scheme not in {"http", "https"} or not url.hostname or not text.isascii():
        raise ValueError("must be an address like https://host.example")
    if "@" in url.netloc or url.query or url.fragment or any(sign <= " " for sign in text):
        raise ValueError("must be without user, query, fragment and spaces")
    return text.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _secret(secret: SecretStr) -> SecretStr:
    """Check a secret that is sent as a header; a file's line end is no part of it."""
    text = secret.get_secret_value().strip()
    if not text or not text.isascii() or not text.isprintable():
        raise ValueError("must be visible ASCII, and not empty")
    return SecretStr(text)


BaseUrl = Annotated[str, AfterValidator(_base_url)]
Secret = Annotated[SecretStr, AfterValidator(_secret)]


class DestinationSettings(BaseModel):
    """Common to destinations. Renaming a destination makes a new one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    events: tuple[EventType, ...]
    """Types it takes."""
    start: Literal["beginning", "now"] = "beginning"
    """Where in the log a new destination begins."""
    batch_events: Annotated[int, Field(ge=1, le=1000)] = 100
    batch_seconds: Annotated[float, Field(ge=0, le=60)] = 1.0
    """How long the first event of a batch waits for others."""
    rate_per_second: Annotated[float, Field(gt=0)] = 40.0
    """Requests, not events."""
    concurrency: Annotated[int, Field(ge=1, le=256)] = 4
    timeout_seconds: Seconds = 10.0
    retry_for_seconds: Seconds = 259_200.0
    """After the log took it an event is buried, tried or not."""
    retry_alone_seconds: Seconds = 900.0
    """An event that fails while others go through is buried after this long."""
    max_age_seconds: Seconds | None = None
    """Older events are skipped (`too_old`)."""
    on_unknown: Literal["bury", "repeat"] = "bury"
    """What becomes of an event that may have been carried out, where the destination can't tell."""
    needs_consent: bool = False
    """Take only events with full consent."""
