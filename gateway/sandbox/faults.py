"""Faults that can be switched on while a stand-in runs, and the middleware that acts them out.

A fault strikes before the stand-in looks at the request (as a proxy in front of the real service
would) or after it has carried the request out. The second sort is the ambiguous one: the caller
cannot tell it from the first.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from email.utils import formatdate
from enum import StrEnum
from typing import Annotated, Any, Literal, Protocol

from aiohttp import web
from multidict import CIMultiDict
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.alias_generators import to_camel

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

HALF_DONE = web.RequestKey("half_done", bool)
"""Set on a request that is to fail after what its handler notes first, if it notes anything."""

NO_ANSWER = web.RequestKey("no_answer", bool)
"""Set on a request whose connection was broken before any answer."""

_PIECE_BYTES = 65_536
_MISSING_BYTES = 64


class RetryAfterForm(StrEnum):
    """How a ``Retry-After`` header is written.

    The first two are the standard's (RFC 9110, 10.2.3); Dub sends the last, and documents the
    first (dub.md, section 2).
    """

    SECONDS = "seconds"
    HTTP_DATE = "http_date"
    EPOCH_SECONDS = "epoch_seconds"
    EPOCH_MS = "epoch_ms"


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True
    )


class RetryAfter(_Part):
    """A ``Retry-After`` header: how long to wait, and in which form to say it."""

    form: RetryAfterForm = RetryAfterForm.SECONDS
    seconds: int = Field(default=1, ge=0, le=86_400)


class _Fault(_Part):
    path: str | None = Field(default=None, max_length=200)
    """Only requests to this path; a trailing ``*`` stands for any ending. ``None``: all."""

    times: int | None = Field(default=None, ge=1)
    """How many requests it strikes before it switches itself off. ``None``: no end."""

    every: int = Field(default=1, ge=1)
    """Strikes the first of every so many requests that it applies to."""


class AnswerStatus(_Fault):
    """Answer with a status, before the request is carried out or after."""

    kind: Literal["status"] = "status"
    status: int = Field(ge=300, le=599)
    carried_out: bool = False
    retry_after: RetryAfter | None = None
    body: str | None = Field(default=None, max_length=65_536)
    """The answer's text; ``None``: an error in the service's own form."""


class Delay(_Fault):
    """Wait, then carry the request out, whether or not the caller is still there."""

    kind: Literal["delay"] = "delay"
    seconds: float = Field(default=5, ge=0, le=3_600)


class HalfDone(_Fault):
    """Fail with 500 after what the service notes first; only Dub's leads have such a half.

    Dub never takes back its note that it knows the lead, though nothing is recorded (dub.md 2).
    """

    kind: Literal["half_done"] = "half_done"


class Reset(_Fault):
    """Reset the connection instead of answering, before the request is carried out or after."""

    kind: Literal["reset"] = "reset"
    carried_out: bool = False


class CloseMidAnswer(_Fault):
    """Carry the request out, send half of the answer, close the connection."""

    kind: Literal["close_mid_answer"] = "close_mid_answer"


class SlowDrip(_Fault):
    """Carry the request out and answer one byte at a time, padded with blanks."""

    kind: Literal["slow_drip"] = "slow_drip"
    seconds_between: float = Field(default=1, ge=0, le=60)
    size_bytes: int = Field(default=64, ge=1, le=65_536)


class HugeAnswer(_Fault):
    """Carry the request out and send the answer with a very long tail of blanks."""

    kind: Literal["huge_answer"] = "huge_answer"
    size_bytes: int = Field(default=64 * 1_048_576, ge=1, le=1_073_741_824)


class InvalidJson(_Fault):
    """Carry the request out and answer 200 with something that is not JSON."""

    kind: Literal["invalid_json"] = "invalid_json"
    body: str = Field(default='{"half": ', max_length=65_536)


class Drift(_Fault):
    """Carry the request out; then rows come to the front of the listing, or go from it.

    Only PostGrid's stand-in has listings that are paged by offset; elsewhere it does nothing.
    """

    kind: Literal["drift"] = "drift"
    insert: int = Field(default=1, ge=0, le=1_000)
    remove: int = Field(default=0, ge=0, le=1_000)


Fault = Annotated[
    AnswerStatus
    | Delay
    | HalfDone
    | Reset
    | CloseMidAnswer
    | SlowDrip
    | HugeAnswer
    | InvalidJson
    | Drift,
    Field(discriminator="kind"),
]
DRIFT: web.AppKey[Callable[[str, Drift], None]] = web.AppKey("drift")
"""Lets the rows of the listing under a path drift."""
FAULT: TypeAdapter[Fault] = TypeAdapter(Fault)
"""Reads a fault from JSON."""


class ErrorForm(Protocol):
    """Makes an error answer in a service's own form."""

    def __call__(self, status: int, message: str) -> web.Response:
        """Return the answer for the status, saying the message."""
        ...


class FaultBoard:
    """The faults that are switched on, in the order in which they were."""

    def __init__(self) -> None:
        self._faults: list[tuple[Fault, list[int]]] = []
        self._released = asyncio.Event()

    def __iter__(self) -> Iterator[Fault]:
        return (fault for fault, _ in self._faults)

    def add(self, fault: Fault) -> None:
        """Switch a fault on, behind those already on."""
        self._faults.append((fault, [0, 0]))

    def clear(self) -> None:
        """Switch everything off and let go of the requests that a fault holds up."""
        self._faults.clear()
        self._released.set()
        self._released = asyncio.Event()

    def take(self, path: str) -> Fault | None:
        """Return the first fault that strikes a request to this path, counting the strike."""
        for entry in self._faults:
            fault, counts = entry
            if not _applies(fault, path):
                continue
            counts[0] += 1
            if (counts[0] - 1) % fault.every:
                continue
            counts[1] += 1
            if counts[1] == fault.times:
                self._faults.remove(entry)
            return fault
        return None

    def pause(self) -> Callable[[float], Awaitable[None]]:
        """Return a sleep that ends early, now and ever after, when the board is cleared."""
        released = self._released

        async def sleep(seconds: float) -> None:
            with suppress(TimeoutError):
                await asyncio.wait_for(released.wait(), seconds)

        return sleep

    def as_json(self) -> list[dict[str, Any]]:
        """Show the faults, and how often each has struck."""
        return [
            {**fault.model_dump(mode="json", by_alias=True, exclude_none=True), "struck": counts[1]}
            for fault, counts in self._faults
        ]


class FaultyService:
    """Acts faults out in front of one service's handlers."""

    def __init__(self, board: FaultBoard, error: ErrorForm, now_ms: Callable[[], int]) -> None:
        self._board = board
        self._error = error
        self._now_ms = now_ms
        self._late_tasks: set[asyncio.Task[web.StreamResponse]] = set()

    async def answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Answer the request, with the fault that is due if there is one."""
        fault = self._board.take(request.path)
        if fault is None:
            return await handler(request)
        # Whatever is about to happen, the request has arrived whole.
        await request.read()
        return await self._act_out(fault, request, handler)

    async def _act_out(
        self, fault: Fault, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        match fault:
            case AnswerStatus():
                return await self._status(fault, request, handler)
            case HalfDone():
                request[HALF_DONE] = True
                return await handler(request)
            case Delay():
                return await self._late(fault, request, handler)
            case Reset():
                return await _reset(fault, request, handler)
            case Drift():
                return await _drift(fault, request, handler)
            case _:
                return await self._spoil(fault, request, await handler(request))

    async def _late(
        self, fault: Delay, request: web.Request, handler: Handler
    ) -> web.StreamResponse:
        sleep = self._board.pause()

        async def carry_out_late() -> web.StreamResponse:
            await sleep(fault.seconds)
            return await handler(request)

        # A task of its own: some servers cancel a handler whose caller has hung up.
        task = asyncio.create_task(carry_out_late())
        self._late_tasks.add(task)
        task.add_done_callback(self._late_tasks.discard)
        return await asyncio.shield(task)

    async def _spoil(
        self,
        fault: CloseMidAnswer | SlowDrip | HugeAnswer | InvalidJson,
        request: web.Request,
        answer: web.StreamResponse,
    ) -> web.StreamResponse:
        match fault:
            case CloseMidAnswer():
                return await _close_mid_answer(request, answer)
            case SlowDrip():
                return await self._drip(fault, request, answer)
            case HugeAnswer():
                return await _huge(fault, request, answer)
            case InvalidJson():
                return web.Response(text=fault.body, content_type="application/json")

    async def _status(
        self, fault: AnswerStatus, request: web.Request, handler: Handler
    ) -> web.Response:
        if fault.carried_out:
            await handler(request)
        if fault.body is None:
            answer = self._error(fault.status, "A fault switched on in the sandbox.")
        else:
            answer = web.Response(status=fault.status, text=fault.body)
        if fault.retry_after is not None:
            answer.headers["Retry-After"] = retry_after_text(fault.retry_after, self._now_ms())
        return answer

    async def _drip(
        self, fault: SlowDrip, request: web.Request, answer: web.StreamResponse
    ) -> web.StreamResponse:
        sleep = self._board.pause()
        body = _body_of(answer).ljust(fault.size_bytes)
        slow = _same_head(answer)
        slow.content_length = len(body)
        with suppress(ConnectionError):
            await slow.prepare(request)
            for place in range(len(body)):
                await slow.write(body[place : place + 1])
                await sleep(fault.seconds_between)
        return slow


def retry_after_text(retry_after: RetryAfter, now_ms: int) -> str:
    """Write the header's value in its form."""
    due_seconds = now_ms // 1_000 + retry_after.seconds
    match retry_after.form:
        case RetryAfterForm.SECONDS:
            return str(retry_after.seconds)
        case RetryAfterForm.HTTP_DATE:
            return formatdate(due_seconds, usegmt=True)
        case RetryAfterForm.EPOCH_SECONDS:
            return str(due_seconds)
        case RetryAfterForm.EPOCH_MS:
            return str(now_ms + retry_after.seconds * 1_000)


def _applies(fault: Fault, path: str) -> bool:
    if fault.path is None:
        return True
    if fault.path.endswith("*"):
        return path.startswith(fault.path[:-1])
    return path == fault.path


async def _reset(fault: Reset, request: web.Request, handler: Handler) -> web.Response:
    if fault.carried_out:
        await handler(request)
    request[NO_ANSWER] = True
    if request.transport is not None:
        connection = request.transport.get_extra_info("socket")
        # Lingering for no time makes the kernel send a reset instead of a polite close.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        request.transport.abort()
    return web.Response()


async def _drift(fault: Drift, request: web.Request, handler: Handler) -> web.StreamResponse:
    answer = await handler(request)
    if drift := request.app.get(DRIFT):
        drift(request.path, fault)
    return answer


async def _close_mid_answer(request: web.Request, answer: web.StreamResponse) -> web.StreamResponse:
    body = _body_of(answer)
    half = _same_head(answer)
    half.content_length = len(body) + _MISSING_BYTES
    with suppress(ConnectionError):
        await half.prepare(request)
        await half.write(body[: len(body) // 2] or b" ")
    if request.transport is not None:
        request.transport.close()
    return half


async def _huge(
    fault: HugeAnswer, request: web.Request, answer: web.StreamResponse
) -> web.StreamResponse:
    huge = _same_head(answer)
    huge.enable_chunked_encoding()
    left = fault.size_bytes
    with suppress(ConnectionError):
        await huge.prepare(request)
        await huge.write(_body_of(answer))
        while left > 0:
            await huge.write(b" " * min(left, _PIECE_BYTES))
            left -= _PIECE_BYTES
    return huge


def _body_of(answer: web.StreamResponse) -> bytes:
    body = answer.body if isinstance(answer, web.Response) else None
    return bytes(body) if isinstance(body, bytes | bytearray) else b""


def _same_head(answer: web.StreamResponse) -> web.StreamResponse:
    headers = CIMultiDict(answer.headers)
    headers.popall("Content-Length", None)
    return web.StreamResponse(status=answer.status, headers=headers)
