"""Reads a request's body: bounded in size before and after inflation, and in time."""

import asyncio
import zlib
from collections.abc import Callable

from aiohttp import web

from gateway.http.answers import DeclinedError, Trouble

MOST_BYTES = 1024 * 1024
_TYPES = {"text/plain", "application/json"}
_GZIP_BITS = 31
_ZLIB_BITS = 15
_RAW_BITS = -15


async def read_body(request: web.Request, seconds: float) -> bytes:
    """Return the body, inflated. Raises DeclinedError."""
    if request.content_type not in _TYPES:
        raise DeclinedError(Trouble.UNSUPPORTED_TYPE)
    return await read_any_body(request, seconds)


async def read_any_body(request: web.Request, seconds: float) -> bytes:
    """Return the body, whatever it says that it is, inflated. Raises DeclinedError."""
    encoding = request.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in _INFLATE:
        raise DeclinedError(Trouble.UNSUPPORTED_ENCODING)
    if (request.content_length or 0) > MOST_BYTES:
        raise DeclinedError(Trouble.TOO_LARGE)
    return _INFLATE[encoding](await _whole(request, seconds))


async def _whole(request: web.Request, seconds: float) -> bytes:
    if request.content.is_eof():  # it came together with the head, as most do
        return await _read(request)
    try:
        async with asyncio.timeout(seconds):
            return await _read(request)
    except TimeoutError:
        raise DeclinedError(Trouble.BODY_STALLED) from None


async def _read(request: web.Request) -> bytes:
    content = request.content
    parts: list[bytes] = []
    size = 0
    while not content.at_eof():
        try:
            part = await content.readany()
        except web.RequestPayloadError:
            raise DeclinedError(Trouble.BAD_REQUEST) from None
        except ConnectionError:  # it went away, as pages do; nobody will read the answer
            raise DeclinedError(Trouble.BODY_STALLED) from None
        parts.append(part)
        size += len(part)
        if size > MOST_BYTES:
            raise DeclinedError(Trouble.TOO_LARGE)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _inflate(body: bytes, bits: int) -> bytes:
    """Inflate to MOST_BYTES and not a byte further, so that a bomb does not go off."""
    inflater = zlib.decompressobj(bits)
    try:
        inflated = inflater.decompress(body, MOST_BYTES + 1)
    except zlib.error as error:
        raise DeclinedError(Trouble.BAD_REQUEST, _BAD_COMPRESSION.format(error)) from None
    if len(inflated) > MOST_BYTES:
        raise DeclinedError(Trouble.TOO_LARGE)
    if not inflater.eof or inflater.unused_data:
        raise DeclinedError(Trouble.BAD_REQUEST, _BAD_COMPRESSION.format("it is cut or too long"))
    return inflated


def _deflate(body: bytes) -> bytes:
    """Inflate `deflate`: zlib's format by RFC 9110, though some senders leave its head out."""
    has_head = body[:1] and body[0] & 0x0F == zlib.DEFLATED
    return _inflate(body, _ZLIB_BITS if has_head else _RAW_BITS)


_BAD_COMPRESSION = "The body could not be inflated ({}); compress it anew, or send it as it is."
_INFLATE: dict[str, Callable[[bytes], bytes]] = {
    "identity": lambda body: body,
    "gzip": lambda body: _inflate(body, _GZIP_BITS),
    "deflate": _deflate,
}
