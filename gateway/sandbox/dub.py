"""A strict stand-in of Dub's conversion tracking, in both dialects (dub.md, sections 1 and 2).

The order of the checks is the real one: key, rate limit, JSON, fields, business rules. An error
says ``code``, ``message`` and ``doc_url``. Beside the API it has a short-link server,
``GET /go/{key}``, which makes clicks as Dub's own does.
"""

import hmac
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel
from yarl import URL

from gateway.sandbox.control import Control, Refused, own_body, own_json, problems
from gateway.sandbox.dub_2024 import Customer2024, Lead2024, Sale2024, Service2024
from gateway.sandbox.dub_models import CustomerChange, Lead, NewCustomer, Sale, first_issue
from gateway.sandbox.dub_workspace import Customer, Declined, DubSandbox, Workspace
from gateway.sandbox.faults import HALF_DONE
from gateway.sandbox.record import RateLimit

# Stricter than known: no greatest body is documented; this is what the real one's host allows.
MAX_BODY_BYTES = 4_500_000

_MINUTE_MS = 60_000
_CLICK_COOKIE_SECONDS = 3_600
_STATUS = {
    "bad_request": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "not_found": 404,
    "conflict": 409,
    "invite_expired": 410,
    "unprocessable_entity": 422,
    "rate_limit_exceeded": 429,
    "internal_server_error": 500,
}
_CODE = {status: code for code, status in _STATUS.items()}


class _Own(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, alias_generator=to_camel, validate_by_name=False
    )


class _NewClick(_Own):
    """Body of ``POST /_sandbox/clicks``."""

    key: Annotated[str, Field(max_length=100)]
    click_id: Annotated[str, Field(min_length=1, max_length=100)] | None = None


class _NewLink(_Own):
    """Body of ``POST /_sandbox/links``."""

    key: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,100}$")]
    url: Annotated[str, Field(pattern=r"^https?://[^\s]{1,2000}$")]
    disabled: bool = False


class _ListQuery(BaseModel):
    """What ``GET /customers`` can be asked; unknown names are dropped."""

    model_config = ConfigDict(alias_generator=to_camel)

    email: str = ""
    external_id: str = ""
    search: str = ""
    country: str = ""
    page: int = Field(default=1, ge=1, le=1_000_000)
    page_size: int = Field(default=100, ge=1, le=100)

    def takes(self, customer: Customer) -> bool:
        """Say whether a customer is asked for: e-mail before external id before search."""
        if self.country and customer.country != self.country:
            return False
        if self.email:
            return customer.email == self.email
        if self.external_id:
            return customer.external_id == self.external_id
        named = (customer.email or "", customer.external_id, customer.name)
        return any(self.search in name for name in named)


DUB = web.AppKey("dub", Workspace)
"""What a Dub stand-in holds."""

DUB_RATE = web.AppKey("dub_rate", RateLimit)
"""Its rate limit, which may be changed while it runs."""


def create_dub(settings: DubSandbox, static_folder: Path) -> web.Application:
    """Make the stand-in; ``static_folder`` holds the page in ``sandbox/``."""
    workspace = Workspace(settings)
    control = Control("Dub", workspace, dub_error, settings.now_ms)
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[control.middleware])
    app[DUB] = workspace
    app[DUB_RATE] = RateLimit(settings.requests_per_minute, _MINUTE_MS, settings.now_ms)
    gate = _Gate(settings, app[DUB_RATE])
    routes = _routes_of_2024 if settings.dialect == "2024" else _routes
    for method, path, handler in routes(settings, workspace):
        app.router.add_route(method, path, gate.behind_the_key(handler))
    short_links = _ShortLinks(settings, workspace)
    app.router.add_get("/go/{key}", short_links.follow, allow_head=False)
    app.router.add_post("/_sandbox/clicks", short_links.add_click)
    app.router.add_post("/_sandbox/links", short_links.add_link)
    control.attach(app, static_folder)
    return app


def dub_error(status: int, message: str) -> web.Response:
    """Make an error answer in Dub's envelope, with the code that goes with the status."""
    code = _CODE.get(status, "internal_server_error")
    # The real one too turns only the first underscore into a hyphen.
    doc_url = f"https://dub.co/docs/api-reference/errors#{code.replace('_', '-', 1)}"
    if code == "unprocessable_entity":
        doc_url = "https://dub.co/docs/api-reference/errors#unprocessable-entity"
    error = {"code": code, "message": message, "doc_url": doc_url}
    return web.json_response({"error": error}, status=status)


Body = TypeVar("Body", bound=BaseModel)
Handler = Callable[[web.Request], Awaitable[web.Response]]


Routes = list[tuple[str, str, Handler]]


def _routes(_settings: DubSandbox, workspace: Workspace) -> Routes:
    service = _Service(workspace)
    return [
        ("POST", "/track/lead", service.lead),
        ("POST", "/track/sale", service.sale),
        ("GET", "/customers", service.customers),
        ("POST", "/customers", service.add),
        ("GET", "/customers/{id}", service.customer),
        ("PATCH", "/customers/{id}", service.change),
        ("DELETE", "/customers/{id}", service.delete),
    ]


def _routes_of_2024(settings: DubSandbox, workspace: Workspace) -> Routes:
    service = Service2024(settings, workspace)

    async def lead(request: web.Request) -> web.Response:
        fails = request.get(HALF_DONE, False)
        return web.json_response(service.lead(await _read(request, Lead2024), fails=fails))

    async def sale(request: web.Request) -> web.Response:
        return web.json_response(service.sale(await _read(request, Sale2024)))

    async def customer(request: web.Request) -> web.Response:
        return web.json_response(service.customer(await _read(request, Customer2024)))

    return [
        ("POST", "/track/lead", lead),
        ("POST", "/track/sale", sale),
        ("POST", "/track/customer", customer),
    ]


class _Gate:
    """Key and rate limit, before all else."""

    def __init__(self, settings: DubSandbox, rate: RateLimit) -> None:
        self._key = settings.api_key
        self._now_ms = settings.now_ms
        self._rate = rate

    def behind_the_key(self, handler: Handler) -> Handler:
        """Check key and rate before a handler, and make error answers of what it raises."""

        async def answer(request: web.Request) -> web.Response:
            self._check_key(request)
            admitted = self._rate.admit()
            limits = self._limit_headers()
            try:
                if not admitted:
                    raise Declined("rate_limit_exceeded", "Too many requests.")
                return await handler(request)
            except Declined as declined:
                refusal = dub_error(_STATUS[declined.code], declined.message)
            except ValidationError as error:
                refusal = dub_error(422, first_issue(error))
            refusal.headers.update(limits)
            return refusal

        return answer

    def _check_key(self, request: web.Request) -> None:
        header = request.headers.get("Authorization", "")
        if not header:
            raise Refused(dub_error(401, "Missing Authorization header."))
        if "Bearer " not in header:
            message = "Misconfigured authorization header. Did you forget to add 'Bearer '?"
            raise Refused(dub_error(400, message))
        key = header.replace("Bearer ", "", 1)
        if not key.startswith("dub_"):
            message = "Workspace id not found. Did you forget a `workspaceId` query parameter?"
            raise Refused(dub_error(404, message))
        sent = key.encode(errors="surrogateescape")
        if not hmac.compare_digest(sent, self._key.encode()):
            raise Refused(dub_error(401, "Unauthorized: Invalid API key."))

    def _limit_headers(self) -> dict[str, str]:
        """Return the headers that error answers carry, and success answers do not.

        ``Retry-After`` is the instant at which the window ends, in milliseconds since the epoch,
        though Dub documents seconds to wait (dub.md, section 2, trap 2).
        """
        if self._rate.limit is None:
            return {}
        reset_ms = str((self._now_ms() // _MINUTE_MS + 1) * _MINUTE_MS)
        return {
            "Retry-After": reset_ms,
            "X-RateLimit-Limit": str(self._rate.limit),
            "X-RateLimit-Remaining": str(self._rate.remaining),
            "X-RateLimit-Reset": reset_ms,
        }


class _Service:
    """Today's operations."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    async def lead(self, request: web.Request) -> web.Response:
        body = await _read(request, Lead)
        fails = request.get(HALF_DONE, False)
        _require_customer(body)
        return web.json_response(self._workspace.track_lead(body, fails=fails))

    async def sale(self, request: web.Request) -> web.Response:
        body = await _read(request, Sale)
        _require_customer(body)
        return web.json_response(await self._workspace.track_sale(body))

    async def customers(self, request: web.Request) -> web.Response:
        query = _ListQuery.model_validate(dict(request.query))
        newest_first = list(reversed(self._workspace.customers.values()))
        found = [customer for customer in newest_first if query.takes(customer)]
        start = (query.page - 1) * query.page_size
        shown = found[start : start + query.page_size]
        return web.json_response([self._workspace.customer_json(customer) for customer in shown])

    async def customer(self, request: web.Request) -> web.Response:
        customer = self._workspace.find_customer(request.match_info["id"])
        return web.json_response(self._workspace.customer_json(customer))

    async def change(self, request: web.Request) -> web.Response:
        change = await _read(request, CustomerChange)
        customer = self._workspace.find_customer(request.match_info["id"])
        changed = self._workspace.change_customer(customer, change)
        return web.json_response(self._workspace.customer_json(changed))

    async def add(self, request: web.Request) -> web.Response:
        made = self._workspace.create_customer(await _read(request, NewCustomer))
        return web.json_response(self._workspace.customer_json(made), status=201)

    async def delete(self, request: web.Request) -> web.Response:
        customer = self._workspace.find_customer(request.match_info["id"])
        del self._workspace.customers[customer.external_id]
        return web.json_response({"id": customer.id})


class _ShortLinks:
    """The short-link server, and the sandbox's own calls for clicks and links."""

    def __init__(self, settings: DubSandbox, workspace: Workspace) -> None:
        self._domain = settings.short_domain
        self._workspace = workspace

    async def follow(self, request: web.Request) -> web.Response:
        """Make a click and lead on to the link's address with ``dub_id``.

        The request's own query goes with it. A cookie counts one browser once an hour.
        """
        link = self._workspace.links.get(request.match_info["key"])
        if link is None or link.disabled:
            return web.Response(status=404, text="There is no such link.\n")
        cookie = f"dub_id_{self._domain}_{link.key}"
        click = self._workspace.clicks.get(request.cookies.get(cookie, ""))
        if click is None or click.key != link.key:
            click = self._workspace.click(link.key)
        target = URL(link.url).update_query(request.query).update_query(dub_id=click.id)
        answer = web.Response(status=302, headers={"Location": str(target)})
        answer.set_cookie(
            cookie, click.id, max_age=_CLICK_COOKIE_SECONDS, path=request.path, samesite="Lax"
        )
        return answer

    async def add_click(self, request: web.Request) -> web.Response:
        """Register a click: ``{"key": "summer", "clickId": "…"}``; the id may be left out."""
        try:
            body = _NewClick.model_validate_json(await own_body(request))
        except ValidationError as error:
            return own_json({"problems": problems(error)}, status=422)
        if body.key not in self._workspace.links:
            return own_json({"problems": [{"where": "key", "problem": "No such link."}]}, 404)
        return own_json({"clickId": self._workspace.click(body.key, body.click_id).id}, status=201)

    async def add_link(self, request: web.Request) -> web.Response:
        """Make or change a link: ``{"key": "summer", "url": "https://…", "disabled": false}``."""
        try:
            body = _NewLink.model_validate_json(await own_body(request))
        except ValidationError as error:
            return own_json({"problems": problems(error)}, status=422)
        link = self._workspace.set_link(body.key, body.url, disabled=body.disabled)
        return own_json({"id": link.id, "key": link.key}, status=201)


async def _read(request: web.Request, model: type[Body]) -> Body:
    """Read a body; like the real server, without looking at its content type."""
    try:
        value: Any = orjson.loads(await request.read())
    except orjson.JSONDecodeError:
        message = "Invalid JSON format in request body."
        raise Declined("bad_request", message) from None
    return model.model_validate(value)


def _require_customer(body: Lead | Sale) -> None:
    if not body.customer:
        raise Declined("bad_request", "customerExternalId is required")
