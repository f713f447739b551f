"""A webhook's body: whose it is, how old, and what it says. Pure.

Two formats (postgrid.md, 4). JWT: the body is the bare token, HS256, claims `type`, `data` and
`iat`. JSON: signed in the header `PostGrid-Signature: t=<ms>,v1=<hex>`, over `t`, a dot and the
body. The key is the whole secret, its prefix included.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson

from gateway.adapters.postgrid.translate import ORDER_KINDS

SIGNATURE_HEADER = "PostGrid-Signature"
VISITED = "tracker.visited"
MOST_SIGNATURES = 8
"""In one header; more are not looked at."""
_TIME_DIGITS = 16
_MILLISECONDS_FROM = 100_000_000_000
"""PostGrid's examples have both units; a number this large is milliseconds (postgrid.md, 4)."""


class SignatureError(Exception):
    """Not signed with any of the secrets."""


class StaleError(Exception):
    """Signed by PostGrid, but too long ago (or ahead) to be believed."""


class UnreadableError(ValueError):
    """Signed by PostGrid, but not a message as documented."""


class Message(NamedTuple):
    """What PostGrid says."""

    type: str
    data: dict[str, Any]

    @property
    def order_kind(self) -> str | None:
        """The kind of order that it is about; None when it is about something else."""
        kind, _, what = self.type.partition(".")
        return kind if kind in ORDER_KINDS and what in {"created", "updated"} else None


def open_message(
    body: bytes, signature: str | None, secrets: Sequence[bytes], now_ms: int, age_ms: int
) -> Message:
    """Return what a webhook says. `signature` is the header of that format which has one.

    Raises SignatureError, StaleError, UnreadableError; nothing is read before it is verified.
    """
    if signature is None:
        said = _from_token(body.strip(b" \t\r\n"), secrets)
        signed_at = said.get("iat")
    else:
        said, signed_at = _from_json(body, signature, secrets)
    if not _is_fresh(signed_at, now_ms, age_ms):
        raise StaleError
    kind, data = said.get("type"), said.get("data")
    if not isinstance(kind, str) or not isinstance(data, dict):
        raise UnreadableError("no type and data")
    return Message(kind, data)


def _from_token(token: bytes, secrets: Sequence[bytes]) -> Mapping[str, Any]:
    signed, _, signature = token.rpartition(b".")
    header, _, payload = signed.partition(b".")
    # The text is compared, not what it decodes to: base64 has several texts for some bytes.
    expected = [_base64(hmac.digest(secret, signed, "sha256")) for secret in secrets]
    if not _is_any(signature, expected):
        raise SignatureError
    if _object(_decoded(header)).get("alg") != "HS256":
        raise SignatureError
    return _object(_decoded(payload))


def _from_json(
    body: bytes, header: str, secrets: Sequence[bytes]
) -> tuple[Mapping[str, Any], int | None]:
    parts = [part.strip().partition("=") for part in header.split(",")]
    time = next((value for name, _, value in parts if name == "t"), "")
    given = [value for name, _, value in parts if name == "v1"][:MOST_SIGNATURES]
    signed = time.encode("utf-8", "surrogateescape") + b"." + body
    expected = [hmac.digest(secret, signed, "sha256").hex().encode() for secret in secrets]
    matches = [_is_any(each.encode("utf-8", "surrogateescape"), expected) for each in given]
    if not any(matches):
        raise SignatureError
    return _object(body), _number(time)


def _is_any(given: bytes, expected: Sequence[bytes]) -> bool:
    """Compare with each, in a time that does not tell which one came how close."""
    matches = [hmac.compare_digest(given, each) for each in expected]
    return any(matches)


def _is_fresh(signed_at: object, now_ms: int, age_ms: int) -> bool:
    if isinstance(signed_at, bool) or not isinstance(signed_at, int | float):
        return False
    signed_ms = signed_at if signed_at >= _MILLISECONDS_FROM else signed_at * 1000
    return abs(now_ms - signed_ms) <= age_ms


def _number(text: str) -> int | None:
    is_number = text.isascii() and text.isdecimal() and len(text) <= _TIME_DIGITS
    return int(text) if is_number else None


def _base64(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")


def _decoded(text: bytes) -> bytes:
    try:
        return urlsafe_b64decode(text + b"=" * (-len(text) % 4))
    except ValueError:
        raise UnreadableError("no base64") from None


def _object(text: bytes) -> Mapping[str, Any]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise UnreadableError("no JSON") from None
    if not isinstance(found, dict):
        raise UnreadableError("no JSON object")
    return found
