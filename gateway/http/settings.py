"""The public application's settings."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, IPvAnyNetwork

from gateway.http.listen import Listen


class HttpSettings(BaseModel):
    """Where the public application listens, and what it puts up with."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    listen: Listen = "127.0.0.1:8080"
    trusted_proxies: tuple[IPvAnyNetwork, ...] = ()
    """Whose X-Forwarded-For is believed: addresses or networks."""
    max_in_flight: Annotated[int, Field(ge=1, le=100_000)] = 256
    """Requests with events at once; each may hold 2 MiB."""
    body_seconds: Annotated[float, Field(gt=0, le=300)] = 10.0
    """How long a request's body may take to arrive."""
    requests_per_second: Annotated[float, Field(gt=0)] | None = None
    """Of one client address (of IPv6 a /64); none means no limit."""
