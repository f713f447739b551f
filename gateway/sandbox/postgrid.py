"""A strict stand-in of PostGrid's print-mail API: trackers, visits, orders, webhooks, events.

The paths, fields, errors and events are those of the two documents and of postgrid.md; what is not
known of the real one is said where a choice was made. Beside the API it serves the trackers' links,
``GET /go/{code}``, which lead on and make visits, and really delivers webhooks.
"""

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import orjson
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from gateway.sandbox.control import Control, Refused, own_body, own_json, problems
from gateway.sandbox.faults import DRIFT, Drift
from gateway.sandbox.postgrid_account import (
    IMB_STATUSES,
    STAGES,
    UNKNOWN_ADDRESS,
    UNKNOWN_DEVICE,
    Account,
    Declined,
    Json,
    PostgridSandbox,
    new_id,
    not_found,
)
from gateway.sandbox.postgrid_models import (
    EVENT_TYPES,
    Cheque,
    EventQuery,
    Letter,
    Note,
    OrderBody,
    OtherOrder,
    Postcard,
    Query,
    ReturnEnvelopeOrder,
    SelfMailer,
    TrackerBody,
    WebhookBody,
    WebhookChange,
    first_issue,
)
from gateway.sandbox.postgrid_webhooks import Deliverer
from gateway.sandbox.record import RateLimit

MAX_BODY_BYTES = 8_388_608
ROOT = "/print-mail/v1"

_SECOND_MS = 1_000
_TYPE = {
    400: "validation_error",
    401: "missing_auth_error",
    404: "not_found_error",
    429: "rate_limit_exceeded_error",
    503: "service_unavailable_error",
}
_MODELS: dict[str, tuple[str, type[OrderBody]]] = {
    "letters": ("letter", Letter),
    "postcards": ("postcard", Postcard),
    "cheques": ("cheque", Cheque),
    "self_mailers": ("self_mailer", SelfMailer),
    "self-mailers": ("self_mailer", SelfMailer),
    "selfmailers": ("self_mailer", SelfMailer),
    "snap_packs": ("snap_pack", OtherOrder),
    "boxes": ("box", OtherOrder),
}
"""Each kind's path, with three official spellings of one of them (postgrid.md, 3)."""
_WITH_NOTE = ("letters", "postcards", "cheques")
"""Kinds that can be cancelled with a note too."""

POSTGRID = web.AppKey("postgrid", Account)
"""What a PostGrid stand-in holds."""


def create_postgrid(settings: PostgridSandbox, static_folder: Path) -> web.Application:
    """Make the stand-in; ``static_folder`` holds the page in ``sandbox/``."""
    account = _Campaigns(settings) if settings.landing else Account(settings)
    control = Control("PostGrid", account, postgrid_error, settings.now_ms)
    app = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[control.middleware])
    app[POSTGRID] = account
    service = _Service(settings, account)
    service.attach(app)
    deliverer = Deliverer(settings, account)
    _Own(account, deliverer).attach(app)
    control.attach(app, static_folder)
    app[DRIFT] = service.drift

    async def deliver(_app: web.Application) -> AsyncIterator[None]:
        await deliverer.start()
        yield
        await deliverer.stop()

    app.cleanup_ctx.append(deliver)
    return app


def postgrid_error(status: int, message: str, kind: str | None = None) -> web.Response:
    """Make an error answer in PostGrid's envelope, with the type that goes with the status."""
    fallback = "validation_error" if status < HTTPStatus.INTERNAL_SERVER_ERROR else _TYPE[503]
    error = {"type": kind or _TYPE.get(status, fallback), "message": message}
    return web.json_response({"object": "error", "error": error}, status=status)


Body = TypeVar("Body", bound=BaseModel)
Handler = Callable[[web.Request], Awaitable[Json]]
LIVE = web.RequestKey("live", bool)
"""Whether the request's key is a live one."""


class _Service:
    """The API."""

    def __init__(self, settings: PostgridSandbox, account: Account) -> None:
        self._keys = {settings.test_key: False, settings.live_key: True}
        self._account = account
        self._rate = RateLimit(settings.requests_per_second, _SECOND_MS, settings.now_ms)
        self._newest_first = settings.newest_first

    def attach(self, app: web.Application) -> None:
        """Add the API's paths."""
        for held, made, body in (
            ("trackers", self.create_tracker, self.update_tracker),
            ("webhooks", self.create_webhook, self.update_webhook),
        ):
            self._add(app, "POST", f"/{held}", made, 201)
            self._add(app, "GET", f"/{held}", self._list(held))
            self._add(app, "GET", f"/{held}/{{id}}", self._get(held))
            self._add(app, "POST", f"/{held}/{{id}}", body)
            self._add(app, "DELETE", f"/{held}/{{id}}", self._delete(held))
        self._add(app, "GET", "/trackers/{id}/visits", self.visits)
        self._add(app, "GET", "/webhooks/{id}/invocations", self.invocations)
        self._add(app, "GET", "/events", self.events)
        for kind in _MODELS:
            self._add(app, "POST", f"/{kind}", self._create_order(kind), 201)
            self._add(app, "GET", f"/{kind}", self._list_orders(kind))
            self._add(app, "GET", f"/{kind}/{{id}}", self._order(kind))
            self._add(app, "DELETE", f"/{kind}/{{id}}", self._change(kind, self.cancel))
            self._add(
                app, "POST", f"/{kind}/{{id}}/progressions", self._change(kind, self.progress)
            )
        for kind in _WITH_NOTE:
            cancel = self._change(kind, self.cancel_with_note)
            self._add(app, "POST", f"/{kind}/{{id}}/cancellation", cancel)

        self._attach_envelopes(app)

    def _attach_envelopes(self, app: web.Application) -> None:
        """Add the orders of return envelopes, which are filled, not progressed."""
        under = "/return_envelopes/{envelope:return_envelope_[A-Za-z0-9]+}/orders"
        self._add(app, "POST", under, self.order_envelopes, 201)
        self._add(app, "GET", under, self.envelope_orders)
        self._add(app, "GET", f"{under}/{{id}}", self.envelope_order)
        self._add(app, "DELETE", f"{under}/{{id}}", self.cancel_envelopes)
        self._add(app, "POST", f"{under}/{{id}}/fills", self.fill_envelopes)

    def _add(
        self, app: web.Application, method: str, path: str, handler: Handler, status: int = 200
    ) -> None:
        async def answer(request: web.Request) -> web.Response:
            request[LIVE] = self._mode(request)
            try:
                return web.json_response(await handler(request), status=status)
            except Declined as declined:
                return postgrid_error(declined.status, declined.message, declined.kind)
            except ValidationError as error:
                return postgrid_error(HTTPStatus.BAD_REQUEST, first_issue(error))

        app.router.add_route(method, f"{ROOT}{path}", answer)

    def _mode(self, request: web.Request) -> bool:
        """Check key and rate; return whether the key is a live one."""
        sent = request.headers.get("x-api-key", "").encode(errors="surrogateescape")
        modes = [
            live for key, live in self._keys.items() if hmac.compare_digest(sent, key.encode())
        ]
        if not modes:
            # The type that a wrong key has is not known; this is a missing one's.
            message = "Invalid API key." if sent else "No API key was supplied in x-api-key."
            raise Refused(postgrid_error(HTTPStatus.UNAUTHORIZED, message))
        if not self._rate.admit():
            raise Refused(postgrid_error(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests."))
        return modes[0]

    # Trackers and webhooks

    async def create_tracker(self, request: web.Request) -> Json:
        return self._account.create_tracker(await _read(request, TrackerBody), live=request[LIVE])

    async def update_tracker(self, request: web.Request) -> Json:
        tracker = self._find("trackers", request)
        return self._account.update_tracker(tracker, await _read(request, TrackerBody))

    async def create_webhook(self, request: web.Request) -> Json:
        return self._account.create_webhook(await _read(request, WebhookBody), live=request[LIVE])

    async def update_webhook(self, request: web.Request) -> Json:
        webhook = self._find("webhooks", request)
        return self._account.update_webhook(webhook, await _read(request, WebhookChange))

    def _get(self, held: str) -> Handler:
        async def get(request: web.Request) -> Json:
            return self._find(held, request)

        return get

    def _delete(self, held: str) -> Handler:
        async def delete(request: web.Request) -> Json:
            found = self._find(held, request)
            if held == "trackers":
                return self._account.delete_tracker(found)
            return self._account.delete(self._account.webhooks, found)

        return delete

    # Listings

    def _list(self, held: str) -> Handler:
        async def rows(request: web.Request) -> Json:
            return self._page(request, held, lambda row: row["live"] == request[LIVE])

        return rows

    async def visits(self, request: web.Request) -> Json:
        tracker = self._find("trackers", request)
        return self._page(request, "visits", lambda row: row["tracker"] == tracker["id"])

    async def invocations(self, request: web.Request) -> Json:
        webhook = self._find("webhooks", request)
        return self._page(request, "invocations", lambda row: row["webhook"] == webhook["id"])

    async def events(self, request: web.Request) -> Json:
        query = EventQuery.model_validate(dict(request.query))
        return self._page(request, "events", lambda row: row["live"] == request[LIVE], query)

    def _page(
        self,
        request: web.Request,
        held: str,
        belongs: Callable[[Json], bool],
        query: Query | EventQuery | None = None,
    ) -> Json:
        query = query or Query.model_validate(dict(request.query))
        rows = [row for row in self._held(held).values() if belongs(row) and query.takes(row)]
        if self._newest_first:
            rows.reverse()
        return {
            "object": "list",
            "limit": query.limit,
            "skip": query.skip,
            "totalCount": len(rows),
            "data": rows[query.skip : query.skip + query.limit],
        }

    def drift(self, path: str, fault: Drift) -> None:
        """Let rows come to the front of the listing under a path, and go from it."""
        parts = path.removeprefix(f"{ROOT}/").split("/")
        name = parts[0] if len(parts) == 1 else parts[-1]
        kind = _MODELS[name][0] if name in _MODELS else None
        held = self._held("orders" if kind else name)
        rows = [row for row in held.values() if kind in {None, row["object"]}]
        if len(parts) > 1:
            rows = [row for row in rows if parts[1] in {row.get("tracker"), row.get("webhook")}]
        for row in rows[::-1][: fault.remove]:
            del held[row["id"]]
        for _ in range(fault.insert if rows else 0):
            now = self._account.now()
            made = {**rows[-1], "id": new_id(rows[-1]["object"]), "createdAt": now}
            held[made["id"]] = made

    # Orders

    def _create_order(self, kind: str) -> Handler:
        name, model = _MODELS[kind]

        async def create(request: web.Request) -> Json:
            body = await _read(request, model)
            key = request.headers.get("idempotency-key", "")
            return self._account.create_order(name, body, live=request[LIVE], idempotency_key=key)

        return create

    def _list_orders(self, kind: str) -> Handler:
        name, _ = _MODELS[kind]

        async def rows(request: web.Request) -> Json:
            return self._page(
                request,
                "orders",
                lambda row: row["object"] == name and row["live"] == request[LIVE],
            )

        return rows

    def _order(self, kind: str) -> Handler:
        name, _ = _MODELS[kind]

        async def order(request: web.Request) -> Json:
            return self._find("orders", request, kind=name)

        return order

    def _change(self, kind: str, change: Callable[[web.Request, Json], Awaitable[Json]]) -> Handler:
        name, _ = _MODELS[kind]

        async def changed(request: web.Request) -> Json:
            return await change(request, self._find("orders", request, kind=name))

        return changed

    async def cancel(self, _request: web.Request, order: Json) -> Json:
        return self._account.cancel(order)

    async def cancel_with_note(self, request: web.Request, order: Json) -> Json:
        return self._account.cancel(order, (await _read(request, Note)).note)

    async def progress(self, _request: web.Request, order: Json) -> Json:
        return self._account.progress(order)

    # Orders of return envelopes

    async def order_envelopes(self, request: web.Request) -> Json:
        body = await _read(request, ReturnEnvelopeOrder)
        envelope = request.match_info["envelope"]
        return self._account.order_envelopes(envelope, body, live=request[LIVE])

    async def envelope_orders(self, request: web.Request) -> Json:
        wanted = ("return_envelope_order", request.match_info["envelope"], request[LIVE])
        return self._page(
            request,
            "orders",
            lambda row: (row["object"], row.get("returnEnvelope"), row["live"]) == wanted,
        )

    async def envelope_order(self, request: web.Request) -> Json:
        order = self._find("orders", request, kind="return_envelope_order")
        if order["returnEnvelope"] != request.match_info["envelope"]:
            raise not_found("return_envelope_order", order["id"])
        return order

    async def cancel_envelopes(self, request: web.Request) -> Json:
        return self._account.cancel(await self.envelope_order(request))

    async def fill_envelopes(self, request: web.Request) -> Json:
        return self._account.fill(await self.envelope_order(request))

    def _held(self, name: str) -> dict[str, Json]:
        held: dict[str, Json] = getattr(self._account, name)
        return held

    def _find(self, held: str, request: web.Request, *, kind: str = "") -> Json:
        thing_id = request.match_info["id"]
        found = self._held(held).get(thing_id)
        if found is None or found["live"] != request[LIVE] or (kind and found["object"] != kind):
            raise not_found(kind or held.removesuffix("s"), thing_id)
        return found


async def _read(request: web.Request, model: type[Body]) -> Body:
    try:
        orjson.loads(raw := await request.read())
    except orjson.JSONDecodeError:
        message = "The body is not valid JSON."
        raise Declined(HTTPStatus.BAD_REQUEST, "validation_error", message) from None
    return model.model_validate_json(raw)


class _OwnModel(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, alias_generator=to_camel, validate_by_name=False
    )


class _Piece(_OwnModel):
    """Body of ``POST /_sandbox/links`` and ``…/visits``."""

    tracker: str
    order: str


class _Scan(_Piece):
    device: Annotated[str, Field(max_length=200)] = UNKNOWN_DEVICE
    ip_address: Annotated[str, Field(max_length=100)] = UNKNOWN_ADDRESS


class _Post(_OwnModel):
    """Body of ``POST /_sandbox/orders/{id}``: what printer and postal service know."""

    status: Literal[STAGES] | None = None  # type: ignore[valid-type]  # a tuple of texts
    imb_status: Literal[IMB_STATUSES] | None = None  # type: ignore[valid-type]
    imb_zip_code: Annotated[str | None, Field(alias="imbZIPCode", max_length=20)] = None
    tracking_number: Annotated[str | None, Field(max_length=60)] = None
    metadata: dict[str, Any] | None = None


class _Own:
    """The links, and the sandbox's own calls, which are for both modes."""

    def __init__(self, account: Account, deliverer: Deliverer) -> None:
        self._account = account
        self._deliverer = deliverer

    def attach(self, app: web.Application) -> None:
        """Add the paths."""
        app.router.add_get("/go/{code}", self.follow, allow_head=False)
        app.router.add_post("/_sandbox/links", self.add_link)
        app.router.add_post("/_sandbox/visits", self.add_visit)
        app.router.add_post("/_sandbox/orders/{id}", self.change_order)
        app.router.add_post("/_sandbox/events/{id}/again", self.send_again)
        app.router.add_post("/_sandbox/hurry", self.hurry)

    async def follow(self, request: web.Request) -> web.Response:
        """Lead on to the tracker's address, filled for the piece, and make a visit.

        That it is a 302, and what an expired link does, are choices: neither is known.
        """
        device = _device(request.headers.get("User-Agent", ""))
        try:
            leads_to = self._account.follow(
                request.match_info["code"], device, request.remote or UNKNOWN_ADDRESS
            )
        except KeyError:
            return web.Response(status=404, text="There is no such link.\n")
        except Declined as declined:
            return web.Response(status=declined.status, text=f"{declined.message}\n")
        return web.Response(status=302, headers={"Location": leads_to, "Cache-Control": "no-store"})

    async def add_link(self, request: web.Request) -> web.Response:
        """Make a piece's link, as a template would: ``{"tracker": "…", "order": "…"}``."""
        tracker, order = self._piece(await _own(request, _Piece))
        return own_json(self._account.add_link(tracker, order), status=201)

    async def add_visit(self, request: web.Request) -> web.Response:
        """Make a visit: the same, and ``device`` and ``ipAddress`` if you like."""
        scan = await _own(request, _Scan)
        tracker, order = self._piece(scan)
        visit = self._account.visit(tracker, order, scan.device, scan.ip_address)
        return own_json(visit, status=201)

    def _piece(self, piece: _Piece) -> tuple[Json, Json]:
        tracker = self._account.trackers.get(piece.tracker)
        order = self._account.orders.get(piece.order)
        if tracker is None or order is None:
            raise _no_such("tracker" if tracker is None else "order")
        return tracker, order

    async def change_order(self, request: web.Request) -> web.Response:
        """Let the printer or the postal service report: ``{"imbStatus": "out_for_delivery"}``."""
        body = await _own(request, _Post)
        order = self._account.orders.get(request.match_info["id"])
        if order is None:
            raise _no_such("id")
        fields = body.model_dump(by_alias=True, exclude_none=True)
        return own_json(self._account.change_order(order, fields))

    async def send_again(self, request: web.Request) -> web.Response:
        """Deliver an event once more, as a retry after a lost answer would."""
        event = self._account.events.get(request.match_info["id"])
        if event is None:
            raise _no_such("id")
        self._deliverer.send_again(event)
        return web.Response(status=202)

    async def hurry(self, _request: web.Request) -> web.Response:
        """Make the webhooks' retries now that wait for their time."""
        self._deliverer.hurry()
        return web.Response(status=202)


async def _own(request: web.Request, model: type[Body]) -> Body:
    try:
        return model.model_validate_json(await own_body(request))
    except ValidationError as error:
        text = orjson.dumps({"problems": problems(error)}).decode()
        raise web.HTTPUnprocessableEntity(text=text, content_type="application/json") from None


def _no_such(where: str) -> web.HTTPNotFound:
    text = orjson.dumps({"problems": [{"where": where, "problem": "No such one."}]}).decode()
    return web.HTTPNotFound(text=text, content_type="application/json")


def _device(user_agent: str) -> str:
    """Name the sort of device. The real one's words, but for the unknown one, are not known."""
    if not user_agent:
        return UNKNOWN_DEVICE
    phone = any(word in user_agent for word in ("Mobile", "Android", "iPhone"))
    return "Mobile" if phone else "Desktop"


class _Campaigns(Account):
    """An account with an example in it: a tracker, and a postcard with its link."""

    def __init__(self, settings: PostgridSandbox) -> None:
        super().__init__(settings)
        self._example = settings
        self._begin()

    def reset(self) -> None:
        """Forget everything, and begin with the example again."""
        super().reset()
        self._begin()

    def _begin(self) -> None:
        template = f"{self._example.landing}?vtid={{{{contactId}}}}&mail_ref={{{{mailReference}}}}"
        tracker = self.create_tracker(
            TrackerBody.model_validate(
                {
                    "redirectURLTemplate": template,
                    "urlExpireAfterDays": 90,
                    "description": "Example",
                }
            ),
            live=False,
        )
        ids = {"contactId": "contact-of-the-demo", "mailReference": "autumn-0001"}
        html = f"<p>Scan me</p><img src='{{{{{tracker['id']}.qrcode}}}}'>"
        postcard = Postcard.model_validate(
            {
                "to": {"firstName": "Kim", "addressLine1": "1 Example Street"},
                "size": "6x4",
                "frontHTML": "<h1>Autumn</h1>",
                "backHTML": html,
                "description": "Example",
                "mergeVariables": ids,
                "metadata": {**ids, "customerId": "u-demo"},
            }
        )
        self.create_order("postcard", postcard, live=False)
        if self._example.webhook_url:
            webhook = {
                "url": self._example.webhook_url,
                "enabledEvents": EVENT_TYPES,
                "secret": self._example.webhook_secret,
            }
            self.create_webhook(WebhookBody.model_validate(webhook), live=False)
