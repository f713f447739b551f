"""Delivers the PostGrid stand-in's webhooks: in both formats, signed, tried again."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import aiohttp
import orjson

from gateway.sandbox.postgrid_account import Account, PostgridSandbox

Json = dict[str, Any]

_ACCEPTED = 200
"""Any other status is tried again (SEED3); what another 2xx does is not known."""
_JWT_HEADER = {"alg": "HS256", "typ": "JWT"}


def jwt(claims: Mapping[str, Any], secret: str) -> str:
    """Return a token signed with HS256; the key is the whole secret, its prefix too."""
    parts = (orjson.dumps(_JWT_HEADER), orjson.dumps(claims))
    signed = ".".join(_base64url(part) for part in parts)
    return f"{signed}.{_base64url(_hmac(secret, signed.encode()).digest())}"


def signature(body: bytes, secret: str, time_ms: int) -> str:
    """Return the header ``PostGrid-Signature`` of a JSON body."""
    code = _hmac(secret, str(time_ms).encode() + b"." + body)
    return f"t={time_ms},v1={code.hexdigest()}"


def _hmac(secret: str, message: bytes) -> "hmac.HMAC":
    return hmac.new(secret.encode(), message, hashlib.sha256)


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


class Deliverer:
    """Makes events of what the account tells, and brings each to the webhooks that want it."""

    def __init__(self, settings: PostgridSandbox, account: Account) -> None:
        self._settings = settings
        self._account = account
        self._tasks: set[asyncio.Task[None]] = set()
        self._hurry = asyncio.Event()
        self._session: aiohttp.ClientSession | None = None
        account.told = self._told

    async def start(self) -> None:
        """Open what deliveries need."""
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=self._settings.answer_seconds),
            cookie_jar=aiohttp.DummyCookieJar(),
        )

    async def stop(self) -> None:
        """Give up what waits, and close."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def hurry(self) -> None:
        """Make the retries that wait now, not when they are due."""
        self._hurry.set()
        self._hurry = asyncio.Event()

    def send_again(self, event: Json) -> None:
        """Deliver an event once more, to every webhook that wants it."""
        for webhook in self._wanting(event):
            self._begin(webhook, event)

    def _told(self, kind: str, resource: Json, updated: Json | None) -> None:
        event = {"type": kind, "live": resource["live"]}
        if not self._wanting(event):
            return  # an event is made when a webhook is triggered
        held = self._account.events
        made = self._account.add(
            held, "event", {**event, "data": {**resource}, "updatedFields": updated}
        )
        del made["updatedAt"]
        self.send_again(made)

    def _wanting(self, event: Json) -> list[Json]:
        return [
            webhook
            for webhook in self._account.webhooks.values()
            if webhook["enabled"]
            and webhook["live"] == event["live"]
            and event["type"] in webhook["enabledEvents"]
        ]

    def _begin(self, webhook: Json, event: Json) -> None:
        task = asyncio.create_task(self._deliver(webhook["id"], event))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, webhook_id: str, event: Json) -> None:
        """Try until it is accepted or the retries are used up."""
        signed_ms = self._settings.now_ms()
        for wait_seconds in (*self._settings.retry_seconds, None):
            webhook = self._account.webhooks.get(webhook_id)
            if webhook is None or not webhook["enabled"]:
                return
            if self._settings.resign_retries:
                signed_ms = self._settings.now_ms()
            status = await self._attempt(webhook, event, signed_ms)
            self._note(webhook, event, status)
            if status == _ACCEPTED or wait_seconds is None:
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), wait_seconds)

    async def _attempt(self, webhook: Json, event: Json, signed_ms: int) -> int:
        """Make one request; return its status, 0 when there was no answer."""
        if self._session is None:
            return 0
        body, headers = _message(webhook, event, signed_ms)
        try:
            async with self._session.post(
                webhook["url"], data=body, headers=headers, allow_redirects=False
            ) as answer:
                return answer.status
        except (aiohttp.ClientError, OSError, ValueError):
            return 0

    def _note(self, webhook: Json, event: Json, status: int) -> None:
        data = event["data"]
        order_id = data.get("orderID") or (data["id"] if "status" in data else None)
        fields = {
            "webhook": webhook["id"],
            "event": event["id"],
            "type": event["type"],
            "statusCode": status,
            "live": webhook["live"],
            **({"orderID": order_id} if order_id else {}),
        }
        self._account.add(self._account.invocations, "webhook_invocation", fields)


def _message(webhook: Json, event: Json, signed_ms: int) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of a delivery in the webhook's format of today."""
    secret = webhook["secret"]
    if webhook["payloadFormat"] == "jwt":
        claims = {"type": event["type"], "data": event["data"], "iat": signed_ms // 1000}
        # Which content type goes with the bare token is not known.
        return jwt(claims, secret).encode(), {"Content-Type": "text/plain; charset=utf-8"}
    # Of the outer keys only `type` and `data` are certain; the others are the event's own.
    body = orjson.dumps(event)
    header = signature(body, secret, signed_ms)
    return body, {"Content-Type": "application/json", "PostGrid-Signature": header}
