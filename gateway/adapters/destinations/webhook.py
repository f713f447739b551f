"""Webhook: every field of every event to an address of your own, signed by Standard Webhooks 1.0.

The receiver verifies the signature with any of that scheme's libraries, answers 2xx once it has
the events, and knows a repeated one by `site`, `id` and `derived`.
"""

import base64
import binascii
from collections.abc import Sequence
from datetime import timedelta
from hashlib import sha256
from http import HTTPStatus
from typing import Annotated, Literal, Self
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import orjson
from pydantic import AfterValidator, Field, SecretStr, model_validator
from standardwebhooks import Webhook

from gateway import __version__
from gateway.deliver.settings import DestinationSettings, EventType, Seconds
from gateway.model.answers import hide, judge, reply, succeeded, wrong_setting
from gateway.model.attempt import (
    Again,
    Answered,
    Done,
    Item,
    Reply,
    Request,
    Skip,
    Verdict,
)
from gateway.model.envelope import Envelope
from gateway.model.instant import EPOCH
from gateway.model.journal import excerpt
from gateway.model.outcome import Outcome, Reason
from gateway.model.public_address import is_public
from gateway.ports import Clock, HttpClient

_PREFIX = "whsec_"
_SECRET_BYTES = range(24, 65)
"""By the specification, "Signature scheme"."""
_INSIDE = (".localhost", ".local", ".internal", ".svc", ".test")
"""Ends of names that never stand for a host on the internet."""
_HIDDEN_CHARACTERS = 8
"""A path or query this long may hold a token; a shorter one in an answer helps to see a mistake."""


def _url(text: str) -> str:
    url = urlsplit(text)
    if url.scheme not in {"http", "https"} or not url.hostname or not text.isascii():
        raise ValueError("must be an address like https://host.example/events")
    if "@" in url.netloc or "#" in text or any(sign <= " " for sign in text):
        raise ValueError("must be without user, fragment and spaces")
    _ = url.port  # raises ValueError where it is none
    return text


def _secret(secret: SecretStr) -> SecretStr:
    """Check a secret more strictly than receivers' libraries: some pass over what is no base64."""
    text = secret.get_secret_value().strip()
    key = text.removeprefix(_PREFIX)
    try:
        size = len(base64.b64decode(key + "=" * (-len(key) % 4), validate=True))
    except (binascii.Error, ValueError):
        size = 0
    if not text.startswith(_PREFIX) or size not in _SECRET_BYTES:
        raise ValueError(
            "must be whsec_ and then 24 to 64 bytes in base64; openssl rand -base64 32 makes them"
        )
    return SecretStr(text)


class WebhookSettings(DestinationSettings):
    """One address. It gets the events of the sites that name it, of the types in `events`."""

    kind: Literal["webhook"]
    url: Annotated[str, AfterValidator(_url)]
    secrets: Annotated[
        tuple[Annotated[SecretStr, AfterValidator(_secret)], ...], Field(min_length=1, max_length=5)
    ]
    """Every request is signed with each, so that a receiver may change to a new one any time."""
    batch: bool = True
    """An array of up to `batch_events`, also of one event; or each event alone, as an object."""
    allow_private_addresses: bool = False
    """Whether the host may be in a private network, or on this machine."""
    events: tuple[EventType, ...] = (
        "page", "product", "cart", "lead", "sale", "customer", "custom", "mail_visit", "mail_order",
    )  # fmt: skip
    timeout_seconds: Seconds = 15.0
    """The specification recommends 15 to 30."""

    @model_validator(mode="after")
    def _guarded(self) -> Self:
        url = urlsplit(self.url)
        host = url.hostname or ""
        if _is_inside(host) and not self.allow_private_addresses:
            raise ValueError("url must not be a private address, unless allow_private_addresses")
        if url.scheme == "http" and not (self.allow_private_addresses and _is_inside(host)):
            raise ValueError("url must be https (http only with allow_private_addresses, inside)")
        return self


def _is_inside(host: str) -> bool:
    """Whether a host is seen to be in one's own network, by its address or its name."""
    try:
        return not is_public(host)
    except ValueError:
        return "." not in host.rstrip(".") or host.rstrip(".").endswith(_INSIDE)


class WebhookDestination:
    """The `Destination` for a webhook. `http` must refuse private addresses, unless allowed."""

    def __init__(self, settings: WebhookSettings, http: HttpClient, clock: Clock) -> None:
        self._settings = settings
        self._http = http
        self._clock = clock
        self._secrets = [secret.get_secret_value() for secret in settings.secrets]
        self._signers = [Webhook(secret) for secret in self._secrets]
        url = urlsplit(settings.url)
        self._hidden = [*self._secrets, *_tokens(url)]

    @property
    def needs_contact(self) -> bool:
        """Views are sent when they happen."""
        return False

    @property
    def cart_step_ms(self) -> int:
        """Events are sent with their own time."""
        return 1

    def prepare(self, envelope: Envelope, _time_ms: int) -> Item | Skip:
        """Take every event; the receiver knows a repeated one by its id."""
        key = None
        if envelope.type == "cart":  # an older state must not overtake a newer one
            key = f"{envelope.site}/{envelope.event['cartReference']}"
        return Item("events", key, repeatable=True, body=envelope.public())

    def batch_limit(self, _kind: str) -> int:
        """Return the setting; 1 without batches."""
        return self._settings.batch_events if self._settings.batch else 1

    def request(self, items: Sequence[Item]) -> Request:
        """Put the events into an array, or the one event as it is."""
        events = [item.body for item in items]
        body = orjson.dumps(events if self._settings.batch else events[0])
        return Request("events", body, tuple(items))

    async def send(self, request: Request) -> Reply:
        """Sign and post; the events of a batch share one fate."""
        now_ms = self._clock.now_ms()
        answer = await self._http.exchange(
            "POST",
            self._settings.url,
            {
                "Content-Type": "application/json",
                "User-Agent": f"Gateway-Webhook/{__version__}",
                **self._signed(request, now_ms // 1000),
            },
            request.body,
            self._settings.timeout_seconds,
        )
        for text in self._hidden:
            answer = hide(answer, text)
        alone = len(request.items) == 1
        verdict = judge(answer, self._clock.now_ms(), lambda answer: _verdict(answer, alone=alone))
        return reply(answer, (verdict,) * len(request.items))

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Nothing to close."""

    def _signed(self, request: Request, now_seconds: int) -> dict[str, str]:
        """Return the scheme's headers: the time is that of the attempt, the id stays."""
        message = _message_id(request.items)
        moment, body = EPOCH + timedelta(seconds=now_seconds), request.body.decode()
        return {
            "webhook-id": message,
            "webhook-timestamp": str(now_seconds),
            "webhook-signature": " ".join(
                each.sign(message, moment, body) for each in self._signers
            ),
        }


def _message_id(items: Sequence[Item]) -> str:
    """Return the same id for the same events, whenever and by whomever they are sent.

    Made of a hash, for the scheme wants no `.` in it, and an event's own id may have one.
    """
    events = [[item.body.get(name) for name in ("site", "id", "derived")] for item in items]
    return "msg_" + sha256(orjson.dumps(events)).hexdigest()[:32]


def _verdict(answer: Answered, *, alone: bool) -> Verdict:
    if succeeded(answer.status):
        return Done(Outcome.DELIVERED)
    if answer.status == HTTPStatus.GONE:
        # The scheme's word for: send nothing more. Events wait, in case it was said by mistake.
        return Again(Reason.UNAUTHORIZED, detail="HTTP 410: the receiver wants no more webhooks")
    again = wrong_setting(answer)
    if again is not None:
        return again
    if alone:
        return Done(Outcome.DEAD, Reason.REFUSED, excerpt(answer.body) or f"HTTP {answer.status}")
    return Again(Reason.SPLIT, after_seconds=0.0, detail=f"HTTP {answer.status}")


def _tokens(url: SplitResult) -> list[str]:
    """Return parts of the address that may be as good as a password (`/hooks/T0K3N`).

    The longest first; a receiver may show them whole, or one by one as its program has them.
    """
    parts = {url.path, url.query, *url.path.split("/")}
    parts |= {value for _, value in parse_qsl(url.query)}
    parts |= {unquote(part) for part in parts}
    return sorted((part for part in parts if len(part) >= _HIDDEN_CHARACTERS), key=len)[::-1]
