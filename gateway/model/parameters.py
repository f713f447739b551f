"""Takes contact, click and mail parameters out of addresses: they identify a person or a click.

`vtid`, `eclub`: Voyado's contact (voyado.md); `dub_id`: Dub's click; the ad networks' click ids:
PostHog's list (browser.md 2); `mref`, `mail_ref`: the mail reference of a direct mail's link.
"""

import re
from functools import lru_cache
from urllib.parse import unquote_plus

PARAMETERS = frozenset(
    {
        "vtid",
        "eclub",
        "dub_id",
        "mref",
        "mail_ref",
        "gclid",
        "gclsrc",
        "dclid",
        "gbraid",
        "wbraid",
        "fbclid",
        "msclkid",
        "twclid",
        "li_fat_id",
        "igshid",
        "ttclid",
        "rdt_cid",
        "epik",
        "qclid",
        "sccid",
        "irclid",
        "_kx",
    }
)
"""Names of parameters, compared without regard to case."""
_SUSPECT = re.compile(r"[?&#](?:[^=&?#]*%|(?:" + "|".join(sorted(PARAMETERS)) + ")=)")
"""What most addresses, in lower case, hold none of: such a parameter, or a name in disguise."""


@lru_cache(maxsize=1024)  # a shop's pages are few: what visitors look at comes again and again
def clean(address: str) -> str:
    """Return the address without those parameters; what else it holds stays byte for byte.

    A fragment is searched too, for storefronts whose pages are addressed by it.
    """
    if not _SUSPECT.search(address.lower()):
        return address
    base, hash_mark, fragment = address.partition("#")
    base = _clean(base)
    if hash_mark:
        fragment = _clean(fragment) if "?" in fragment else _kept(fragment)
    return base + hash_mark + fragment


def _clean(text: str) -> str:
    """Clean what stands behind the question mark; the mark goes with the last parameter."""
    path, _, query = text.partition("?")
    kept = _kept(query)
    if kept == query:
        return text
    return f"{path}?{kept}" if kept else path


def _kept(query: str) -> str:
    """Return the query without those parameters, itself when there is none of them."""
    pieces = query.split("&")
    kept = [piece for piece in pieces if not _personal(piece)]
    return query if len(kept) == len(pieces) else "&".join(kept)


def _personal(piece: str) -> bool:
    name, equals, _ = piece.partition("=")
    if "%" in name:
        name = unquote_plus(name)
    return bool(equals) and name.lower() in PARAMETERS
