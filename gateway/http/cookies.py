"""The gateway's cookies: ids that outlive the 7 days which browsers give to scripts' own."""

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


def read_cookies(header: str | None) -> dict[str, str]:
    """Return the ids in a Cookie header by their field's name; what can't be one is left out."""
    found: dict[str, str] = {}
    if not header or "gateway_" not in header:
        return found
    for pair in header.split(";"):
        name, _, value = pair.strip().partition("=")
        field = _FIELDS.get(name)
        if field is not None and value:
            text = unquote(value).strip()
            if 0 < len(text) <= _LIMITS[field] and text.isprintable():
                found[field] = text
    return found


def set_cookie(field: str, value: str | None) -> str:
    """Return the Set-Cookie header that remembers an id; with None, the one that deletes it."""
    if value is None:
        return f"{_NAMES[field]}={_DELETED}"
    safe = value if value.isalnum() and value.isascii() else quote(value, safe="")
    return f"{_NAMES[field]}={safe}{_ATTRIBUTES}"
