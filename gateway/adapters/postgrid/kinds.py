"""Kinds of order: the path of each, and which kind an id is of."""

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

KIND = r"^([a-z][a-z_-]{0,40}|return_envelopes/return_envelope_[A-Za-z0-9_-]{1,60}/orders)$"
"""What may stand for a kind in a path: those above, and whatever PostGrid adds."""


def kind_of(order_id: str) -> str | None:
    """Return the kind that an id's prefix names; None if it names none that is known."""
    prefix = order_id.rpartition("_")[0]
    return KIND_OF_OBJECT.get(prefix)


def kinds_to_try(order_id: str) -> tuple[str, ...]:
    """Return the kinds among which to look for an order, the likeliest first."""
    kind = kind_of(order_id)
    if kind == SELF_MAILERS[0]:
        return SELF_MAILERS
    if kind is not None:
        return (kind,)
    return (*KIND_OF_OBJECT.values(), *SELF_MAILERS[1:])
