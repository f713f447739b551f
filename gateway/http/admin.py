"""The admin app: metrics for Prometheus, and what Kubernetes asks. For the inside only."""

import asyncio
from typing import Annotated

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field

from gateway import metrics
from gateway.http.listen import Listen


class AdminSettings(BaseModel):
    """The admin port, and how the process ends."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    listen: Listen = "127.0.0.1:9090"
    drain_seconds: Annotated[float, Field(ge=0, le=600)] = 5.0
    """After SIGTERM everything is served for this long while `/readyz` says 503, so that no
    request comes any more when the port closes: Kubernetes takes a pod out a little later than
    it sends the signal. Ctrl-C does not wait."""
    stop_seconds: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """From the end of the drain: what has not ended by then is named, and the exit status is 1."""


class Readiness:
    """What `/readyz` says, set by the one who starts and stops the process."""

    def __init__(self) -> None:
        self._why_not: str | None = "starting: the buffer is not connected yet"

    @property
    def why_not(self) -> str | None:
        """Why no traffic should come; None when it may."""
        return self._why_not

    def started(self) -> None:
        """Note that the buffer is connected. A later outage is answered by the routes' own 503."""
        self._why_not = None

    def stopping(self) -> None:
        """Note that SIGTERM has come."""
        self._why_not = "stopping: no new traffic, please"


_READINESS = web.AppKey("readiness", Readiness)


def create_admin(readiness: Readiness) -> web.Application:
    """Build the admin app: `/metrics`, `/livez`, `/readyz`."""
    app = web.Application()
    app[_READINESS] = readiness
    app.router.add_get("/metrics", _metrics)
    app.router.add_get("/livez", _livez)
    app.router.add_get("/readyz", _readyz)
    return app


async def _metrics(_: web.Request) -> web.Response:
    body = await asyncio.to_thread(generate_latest, metrics.REGISTRY)  # it reads /proc
    return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _livez(_: web.Request) -> web.Response:
    """Answer as long as the event loop turns; whether the buffer works is no reason to restart."""
    return web.Response(text="ok\n")


async def _readyz(request: web.Request) -> web.Response:
    why_not = request.app[_READINESS].why_not
    if why_not is None:
        return web.Response(text="ready\n")
    return web.Response(status=503, text=f"{why_not}\n")
