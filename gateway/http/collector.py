"""Serves the collector, ready-made in each encoding, by its own routes."""

import json
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from gateway.http.answers import DeclinedError, Trouble

_SUFFIXES = {"br": ".br", "gzip": ".gz", "identity": ""}
"""By preference."""
SCRIPTS = ("collector.js", "collector.mjs")
"""The files of the built folder that are served: the script, and the same as an ES module."""
SHORT_SECONDS = 3600
_IMMUTABLE = "public, max-age=31536000, immutable"


@dataclass(slots=True, frozen=True)
class Collector:
    """A script as built: its hash, its integrity, its bytes by encoding."""

    hash: str
    integrity: str
    bodies: dict[str, bytes]


def read_collector(folder: Path, name: str = "collector.js") -> Collector | None:
    """Read a script, its compressed copies and `collector.json`; None when not built.

    Blocks. Raises ValueError or KeyError when `collector.json` is not as the build writes it.
    """
    script = folder / name
    if not script.is_file():
        return None
    about = json.loads((folder / "collector.json").read_text("utf-8"))[name]
    bodies = {
        encoding: path.read_bytes()
        for encoding, suffix in _SUFFIXES.items()
        if (path := folder / f"{name}{suffix}").is_file()
    }
    return Collector(about["hash"], about["integrity"], bodies)


def hashed(name: str, hash_: str) -> str:
    """Return the name under which a script never changes."""
    stem, _, suffix = name.rpartition(".")
    return f"{stem}.{hash_}.{suffix}"


def collector_answer(
    collector: Collector | None, request: web.Request, wanted: str | None
) -> web.Response:
    """Answer for a script's plain name, or with `wanted` for the name with that hash."""
    if collector is None or wanted not in {None, collector.hash}:
        raise DeclinedError(Trouble.NO_COLLECTOR)
    encoding = _encoding(request.headers.get("Accept-Encoding", ""), collector)
    etag = f'"{collector.hash}-{encoding}"'
    headers = {
        "Cache-Control": _IMMUTABLE if wanted else f"public, max-age={SHORT_SECONDS}",
        "ETag": etag,
        "Vary": "Accept-Encoding",
        # A script with an integrity is fetched with CORS; it holds nothing private.
        "Access-Control-Allow-Origin": "*",
        "Cross-Origin-Resource-Policy": "cross-origin",
        "X-Content-Type-Options": "nosniff",
    }
    if etag in request.headers.get("If-None-Match", ""):
        return web.Response(status=304, headers=headers)
    if encoding != "identity":
        headers["Content-Encoding"] = encoding
    return web.Response(
        body=collector.bodies[encoding],
        headers=headers,
        content_type="text/javascript",
        charset="utf-8",
    )


def _encoding(accepted: str, collector: Collector) -> str:
    """Choose the smallest that the client takes; `q=0` means that it does not."""
    taken = set()
    for part in accepted.lower().split(","):
        name, _, weight = part.partition(";")
        if weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}:
            taken.add(name.strip())
    return next(each for each in collector.bodies if each in taken or each == "identity")
