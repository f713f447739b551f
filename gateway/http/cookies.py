"""The gateway's cookies: ids that outlive the 7 days which browsers give to scripts' own."""

import re
from typing import NamedTuple
from urllib.parse import quote, unquote

LIFETIME_SECONDS = 400 * 86_400
"""The longest that browsers allow."""
_NAMES = {
    "visitorId": "gateway_visitor",
    "clickId": "gateway_click",
    "contactId": "gateway_contact",
}
_ATTRIBUTES = f"; Max-Age={LIFETIME_SECONDS}; Path=/; HttpOnly; Secure; SameSite=Lax"
_DELETED = "; Max-Age=0; Path=/; HttpOnly; Secure; SameSite=Lax"
_FIELDS = {name: field for field, name in _NAMES.items()}
_LIMITS = {"visitorId": 100, "clickId": 100, "contactId": 64}
"""In characters, as for the fields of the wire."""
_SINCE = re.compile(r"~([0-9]{1,15})$")
"""How the contact's cookie ends: since when it says so, in milliseconds."""


class Cookies(NamedTuple):
    """What the gateway's own cookies say."""

    ids: dict[str, str]
    """By their field's name."""
    contact_since_ms: int | None
    """When the contact's was first set: 0 if it does not say, None if there is no such cookie."""


def read_cookies(header: str | None) -> Cookies:
    """Read a Cookie header; what can't be an id is left out."""
    found: dict[str, str] = {}
    since_ms = 0
    if not header or "gateway_" not in header:
        return Cookies(found, None)
    for pair in header.split(";"):
        name, _, value = pair.strip().partition("=")
        field = _FIELDS.get(name)
        if field == "contactId" and (since := _SINCE.search(value)):
            since_ms = int(since[1])
            value = value[: since.start()]
        if field is not None and value:
            text = unquote(value).strip()
            if 0 < len(text) <= _LIMITS[field] and text.isprintable():
                found[field] = text
    return Cookies(found, since_ms if "contactId" in found else None)


def set_cookie(field: str, value: str | None, since_ms: int) -> str:
    """Return the Set-Cookie header that remembers an id; with None, the one that deletes it."""
    if value is None:
        return f"{_NAMES[field]}={_DELETED}"
    safe = value if value.isalnum() and value.isascii() else quote(value, safe="")
    since = f"~{since_ms}" if field == "contactId" else ""
    return f"{_NAMES[field]}={safe}{since}{_ATTRIBUTES}"
