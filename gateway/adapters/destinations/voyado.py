"""Voyado Engage: carts and product views to its tracking API (reference: v2).

Several go in a batch, one alone by the path for one. Success is any 2xx, its body never read.
There is no result per item, so a batch that is refused is split until the item that is wrong
stands alone.
"""

import base64
from collections.abc import Sequence
from datetime import timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import orjson
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7
from pydantic import AfterValidator, Field, SecretStr

from gateway import __version__
from gateway.deliver.settings import BaseUrl, DestinationSettings, Secret
from gateway.model.answers import hide, json_object, judge, reply, succeeded, wrong_setting
from gateway.model.attempt import Again, Answered, Done, Item, Reply, Request, Skip, Verdict
from gateway.model.envelope import Envelope
from gateway.model.instant import EPOCH
from gateway.model.journal import excerpt
from gateway.model.outcome import Outcome, Reason
from gateway.ports import Clock, HttpClient

CART_AGE_SECONDS = 86_400.0
"""A cart with items that is older would remind of what has moved on; emptying is never late."""

_CARTS, _VIEWS = "carts", "productviews"
_BATCH = {_CARTS: "carts/batch", _VIEWS: "productviews"}
_ALONE = {_CARTS: "carts", _VIEWS: "productview"}
_NO_IDS = frozenset({"undefined", "null"})
"""What a script makes of a missing contact id (voyado.md 4, cookies)."""
_KEY_CHARACTERS = 32
_IV_BYTES = 16
_CONTACT_CHARACTERS = 64


def _eclub_key(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value().strip()
    if len(text) != _KEY_CHARACTERS or not (text.isascii() and text.isalnum()):
        raise ValueError("must be 32 characters from a-z, A-Z and 0-9")
    return SecretStr(text)


class VoyadoSettings(DestinationSettings):
    """One Voyado account."""

    kind: Literal["voyado"]
    base_url: BaseUrl
    """`https://<client>.voyado.com`, or `.staging.voyado.com`."""
    api_key: Secret
    languages: dict[str, str] = Field(default_factory=dict)
    """A page's language, or only its first part, to the language of the product feed."""
    path_prefix: Annotated[str, Field(pattern=r"^(/[A-Za-z0-9._~-]+)*$")] = "/api/v2/tracking"
    user_agent: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+/[A-Za-z0-9._-]+$")] = (
        f"Gateway/{__version__}"
    )
    """Product/Version; Voyado asks for it in all calls."""
    time_precision: Literal["seconds", "milliseconds"] = "seconds"
    """Whether Voyado reads fractions of a second is not known."""
    eclub_key: Annotated[SecretStr, AfterValidator(_eclub_key)] | None = None
    """Opens `eclub`, the contact id in a newsletter's links."""
    events: tuple[Literal["product", "cart"], ...] = ("product", "cart")
    rate_per_second: Annotated[float, Field(gt=0)] = 40.0
    """Voyado recommends fewer than 50 requests a second per key, and answers 429 above 200."""


class VoyadoDestination:
    """The `Destination` for Voyado."""

    def __init__(self, settings: VoyadoSettings, http: HttpClient, clock: Clock) -> None:
        self._settings = settings
        self._http = http
        self._clock = clock
        self._languages = {
            key.lower().replace("_", "-"): value for key, value in settings.languages.items()
        }

    @property
    def needs_contact(self) -> bool:
        """Views from before the contact was known come anew, as `recent`."""
        return True

    @property
    def cart_step_ms(self) -> int:
        """The last `time` of a cart wins, so two updates must differ in what is sent."""
        return 1000 if self._settings.time_precision == "seconds" else 1

    def prepare(self, envelope: Envelope, time_ms: int) -> Item | Skip:
        """Make a cart or a view of the event."""
        fields = envelope.fields()
        if envelope.type == "product":
            return self._view(envelope, fields, time_ms)
        if envelope.type == "cart":
            return self._cart(envelope, fields, time_ms)
        return Skip(Reason.NOTHING_TO_SEND)

    def _view(self, envelope: Envelope, fields: dict[str, Any], time_ms: int) -> Item | Skip:
        contact = self._contact(envelope, fields)
        if contact is None:
            return _no_contact(envelope)
        view = {
            "itemId": fields["itemId"],
            "contactId": contact,
            "category": fields.get("category"),
            "time": self._time(time_ms),
            "sessionId": fields.get("sessionId"),
            "newSession": fields.get("newSession"),
            "language": self._language(fields),
            "url": fields.get("url"),
            "externalReferrer": _external(fields),
            "utm": [{"key": key, "value": value} for key, value in fields.get("utm", {}).items()]
            or None,
        }
        # A view has no id of its own at Voyado: sent twice it counts twice.
        return Item(_VIEWS, key=None, repeatable=False, body=_known(view))

    def _cart(self, envelope: Envelope, fields: dict[str, Any], time_ms: int) -> Item | Skip:
        contact, language = self._contact(envelope, fields), self._language(fields)
        if fields["items"] and contact is None:
            return _no_contact(envelope)
        if fields["items"] and language is None:
            return Skip(Reason.NO_LANGUAGE)
        cart = {
            "cartReference": fields["cartReference"],
            "time": self._time(time_ms),
            "contactId": contact,
            "language": language,
            "url": fields.get("url"),
            "items": [
                {"sku": item["sku"], "quantity": item["quantity"]} for item in fields["items"]
            ],
        }
        return Item(
            _CARTS,
            key=f"{envelope.site}/{fields['cartReference']}",
            repeatable=True,
            body=_known(cart),
            max_age_seconds=CART_AGE_SECONDS if fields["items"] else None,
        )

    def _contact(self, envelope: Envelope, fields: dict[str, Any]) -> str | None:
        """Return the contact id as it came, or the one in `eclub` when there is none."""
        if envelope.consent != "full":
            return None
        contact = fields.get("contactId")
        if contact and contact not in _NO_IDS:
            return str(contact)
        if self._settings.eclub_key is None or "eclub" not in fields:
            return None
        return open_eclub(fields["eclub"], self._settings.eclub_key.get_secret_value())

    def _language(self, fields: dict[str, Any]) -> str | None:
        language: str | None = fields.get("language")
        if not language:
            return None
        whole = language.lower().replace("_", "-")
        first = whole.split("-", 1)[0]
        return self._languages.get(whole) or self._languages.get(first) or language

    def _time(self, time_ms: int) -> str:
        moment = EPOCH + timedelta(milliseconds=time_ms)
        return moment.isoformat(timespec=self._settings.time_precision)

    def batch_limit(self, _kind: str) -> int:
        """Return the setting, for carts as for views: Voyado states no limit."""
        return self._settings.batch_events

    def request(self, items: Sequence[Item]) -> Request:
        """Put items of one kind into a bare JSON array, one alone into an object."""
        kind = items[0].kind
        if len(items) == 1:
            return Request(_ALONE[kind], orjson.dumps(items[0].body), tuple(items))
        return Request(_BATCH[kind], orjson.dumps([item.body for item in items]), tuple(items))

    async def send(self, request: Request) -> Reply:
        """Post the items; they share one fate."""
        settings = self._settings
        secret = settings.api_key.get_secret_value()
        answer = await self._http.exchange(
            "POST",
            f"{settings.base_url}{settings.path_prefix}/{request.endpoint}",
            {
                "apikey": secret,
                "User-Agent": settings.user_agent,
                "Content-Type": "application/json",
            },
            request.body,
            settings.timeout_seconds,
        )
        answer = hide(answer, secret)
        alone = len(request.items) == 1
        verdict = judge(answer, self._clock.now_ms(), lambda answer: _verdict(answer, alone=alone))
        return reply(answer, (verdict,) * len(request.items))

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Nothing to close."""


def _verdict(answer: Answered, *, alone: bool) -> Verdict:
    if succeeded(answer.status):
        return Done(Outcome.DELIVERED)
    again = wrong_setting(answer)
    if again is not None and not _names_an_error(answer):
        return again
    if alone:
        return Done(Outcome.DEAD, Reason.REFUSED, excerpt(answer.body) or f"HTTP {answer.status}")
    return Again(Reason.SPLIT, after_seconds=0.0, detail=f"HTTP {answer.status}")


def _names_an_error(answer: Answered) -> bool:
    """Tell `ContactNotFound` and its like, which speak of an item, from a path's own 404."""
    return any(name.lower() in {"code", "errorcode"} for name in json_object(answer.body))


def _no_contact(envelope: Envelope) -> Skip:
    return Skip(Reason.NO_CONTACT if envelope.consent == "full" else Reason.NO_CONSENT)


def _external(fields: dict[str, Any]) -> str | None:
    """Return the page that led here, unless it is one of the same host: that is no other site."""
    referrer: str | None = fields.get("referrer")
    if referrer is None or _host(referrer) == _host(fields.get("url", "")) != "":
        return None
    return referrer


def _host(address: str) -> str:
    try:
        return urlsplit(address).netloc.lower()
    except ValueError:
        return ""


def _known(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}


def open_eclub(eclub: str, key: str) -> str | None:
    """Return the contact id in a soft identification (voyado.md 4.3); None when it is not genuine.

    URL-safe base64 of 16 bytes IV and AES-256-CBC, giving JSON. Nothing signs it, so what is wrong
    with it is never said, and nothing but a contact id is taken from it.
    """
    try:
        sealed = base64.b64decode(eclub + "=" * (-len(eclub) % 4), altchars=b"-_", validate=True)
        cipher = Cipher(AES256(key.encode()), CBC(sealed[:_IV_BYTES])).decryptor()
        padded = cipher.update(sealed[_IV_BYTES:]) + cipher.finalize()
        unpadder = PKCS7(AES256.block_size).unpadder()
        plain = json_object(unpadder.update(padded) + unpadder.finalize())
    except ValueError:
        return None
    contact = {name.lower(): value for name, value in plain.items()}.get("contactid")
    if isinstance(contact, str) and 0 < len(contact) <= _CONTACT_CHARACTERS:
        return contact if contact.isascii() and contact.isprintable() else None
    return None
