"""Serves the collector and its adapters, ready-made in each encoding, by their own routes."""

import json
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from gateway.http.answers import DeclinedError, Trouble

_SUFFIXES = {"br": ".br", "gzip": ".gz", "identity": ""}
"""By preference."""
SHORT_SECONDS = 3600
_IMMUTABLE = "public, max-age=31536000, immutable"


COLLECTOR = "collector"
ADAPTERS = {name: f"adapters/{name}" for name in ("datalayer", "voyado", "dub")}
"""What takes the calls that a shop makes already, by the name of those; to its path."""


@dataclass(slots=True, frozen=True)
class Script:
    """A script as built: its hash, its integrity, its bytes by encoding."""

    hash: str
    integrity: str
    bodies: dict[str, bytes]


def read_script(folder: Path, path: str) -> Script | None:
    """Read `PATH.js`, its compressed copies and `PATH.json`; None when not built.

    Blocks. Raises ValueError or KeyError when `PATH.json` is not as the build writes it.
    """
    script = folder / f"{path}.js"
    if not script.is_file():
        return None
    about = json.loads((folder / f"{path}.json").read_text("utf-8"))
    bodies = {
        encoding: found.read_bytes()
        for encoding, suffix in _SUFFIXES.items()
        if (found := folder / f"{path}.js{suffix}").is_file()
    }
    return Script(about["hash"], about["integrity"], bodies)


def read_adapters(folder: Path) -> dict[str, Script]:
    """Read the adapters that are built. Blocks; raises as `read_script`."""
    return {
        name: script
        for name, path in ADAPTERS.items()
        if (script := read_script(folder, path)) is not None
    }


def script_answer(
    script: Script | None, request: web.Request, wanted: str | None, missing: Trouble
) -> web.Response:
    """Answer with a script by its plain name, or with `wanted` by the name with that hash."""
    if script is None or wanted not in {None, script.hash}:
        raise DeclinedError(missing)
    encoding = _encoding(request.headers.get("Accept-Encoding", ""), script)
    etag = f'"{script.hash}-{encoding}"'
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
        body=script.bodies[encoding],
        headers=headers,
        content_type="text/javascript",
        charset="utf-8",
    )


def _encoding(accepted: str, script: Script) -> str:
    """Choose the smallest that the client takes; `q=0` means that it does not."""
    taken = set()
    for part in accepted.lower().split(","):
        name, _, weight = part.partition(";")
        if weight.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}:
            taken.add(name.strip())
    return next(each for each in script.bodies if each in taken or each == "identity")
