"""Kinds of order: the path of each, and which kind an id is of."""

from typing import Any

KIND_OF_OBJECT = {
    "letter": "letters",
    "postcard": "postcards",
    "cheque": "cheques",
    "self_mailer": "self_mailers",
    "snap_pack": "snap_packs",
    "box": "boxes",
}
"""By the singular, which is the `object` of an order, the prefix of its id, and of its events."""

SELF_MAILERS = ("self_mailers", "self-mailers", "selfmailers")
"""Three official spellings of one path; the first is the newest (postgrid.md, 3)."""

RETURN_ENVELOPE_ORDERS = "return_envelope_orders"
"""Of one return envelope each; PostGrid has them under its path (postgrid.md, 3)."""
_ODD_KIND = {"return_envelope_order": RETURN_ENVELOPE_ORDERS}

KIND = r"^[a-z][a-z_-]{0,40}$"
"""What may stand for a kind: those above, and whatever PostGrid adds."""


def kind_of(order_id: str) -> str | None:
    """Return the kind that an id's prefix names; None if it names none that is known."""
    prefix = order_id.rpartition("_")[0]
    return KIND_OF_OBJECT.get(prefix) or _ODD_KIND.get(prefix)


def kinds_to_try(order_id: str) -> tuple[str, ...]:
    """Return the kinds among which to look for an order, the likeliest first.

    Those of return envelopes cannot be looked for: whose they are must be said.
    """
    kind = kind_of(order_id)
    if kind == RETURN_ENVELOPE_ORDERS:
        return ()
    if kind == SELF_MAILERS[0]:
        return SELF_MAILERS
    if kind is not None:
        return (kind,)
    return (*KIND_OF_OBJECT.values(), *SELF_MAILERS[1:])


def path_of(path: str, values: dict[str, Any]) -> str:
    """Put a kind of order into a call's path, and take from `values` what stands for it there.

    Orders of a return envelope are under it, and filled where others are progressed.
    """
    kind = values.pop("kind")
    if kind != RETURN_ENVELOPE_ORDERS:
        return path.replace("{kind}", kind)
    under = path.replace("{kind}", f"return_envelopes/{values.pop('returnEnvelope')}/orders")
    return under.replace("/progressions", "/fills")
