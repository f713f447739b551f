"""How fast requests may begin: rate, concurrency, breaker and `Retry-After`, of one destination.

Rates are for the destination as a whole; a replica uses its share (owned partitions of all). Each
request kind has a brake: where a run of events is turned away as by a wrong setting, that kind is
paused but for one try now and then, and people are told, instead of each event using up its time.
"""

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from gateway.deliver.settings import DestinationSettings
from gateway.model.attempt import WHOLE, Again, Reply, Request
from gateway.model.breaker import Breaker
from gateway.model.bucket import Bucket
from gateway.model.outcome import Reason
from gateway.model.throttle import Throttle

BRAKE_EVENTS = 2
"""Different events that must have been turned away: one alone may be at fault itself."""


BURST_SECONDS = 0.2
"""After a rest so much of the rate goes at once. No more, for a destination counts by the second
too: Voyado's 40 a second stay below the 50 that it recommends."""


class Turn(NamedTuple):
    """A request kind's brake was put on or taken off; of no kind: the breaker was."""

    kind: str | None
    on: bool
    detail: str
    """The destination's answer, or what went wrong, in short."""


class Pace:
    """Shared by the workers of one destination in one process."""

    def __init__(self, settings: DestinationSettings, partitions: int) -> None:
        self._rate = settings.rate_per_second
        self._partitions = partitions
        self._owned = 0
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._breaker = Breaker()
        self._brakes: dict[str, Breaker] = defaultdict(partial(Breaker, BRAKE_EVENTS))
        self._bucket = Bucket(self._rate, asyncio.get_running_loop().time(), BURST_SECONDS)
        self._throttle = Throttle()
        self._hold_until = 0.0
        self._ended = asyncio.Event()
        """Set, and replaced, whenever a request ends: who waits for the breaker looks again."""
        self.listeners: set[Callable[[], None]] = set()
        """Told whenever a request ends: a kind may be held no more."""

    @property
    def is_open(self) -> bool:
        """Whether the breaker holds requests back."""
        return self._breaker.is_open

    @property
    def is_braked(self) -> bool:
        """Whether a request kind is paused as by a wrong setting."""
        return any(each.is_open for each in self._brakes.values())

    def joined(self, partitions: int) -> None:
        """Count partitions owned (negative: given up); the rate follows."""
        self._owned += partitions
        self._set_rate(asyncio.get_running_loop().time())

    def _set_rate(self, now: float) -> None:
        share = max(1, self._owned) / self._partitions
        self._bucket.rate = self._rate * share * self._throttle.share(now)

    def hold(self, seconds: float) -> None:
        """Begin nothing for so long, as the destination asked for."""
        now = asyncio.get_running_loop().time()
        self._hold_until = max(self._hold_until, now + seconds)

    def held(self) -> dict[str, float | None]:
        """Return the request kinds that wait: for how long, or None, until a try has ended."""
        now = asyncio.get_running_loop().time()
        waits = {kind: brake.wait_seconds(now) for kind, brake in self._brakes.items()}
        return {kind: wait for kind, wait in waits.items() if wait != 0.0}

    async def begin(self) -> None:
        """Wait until a request may begin. Pair it with `end`."""
        await self._slots.acquire()
        try:
            await self._wait()
        except BaseException:
            self._slots.release()
            raise
        self._bucket.take()
        self._breaker.begin()

    async def _wait(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            now = loop.time()
            trial = self._breaker.wait_seconds(now)
            if trial is None:
                await self._ended.wait()
                continue
            self._set_rate(now)
            wait = max(trial, self._hold_until - now, self._bucket.wait_seconds(now))
            if wait <= 0:
                return
            await asyncio.sleep(wait)

    def took(self, kind: str) -> None:
        """Note of which kind the request is that has begun."""
        self._brakes[kind].begin()

    def end(self, kind: str | None, exchange: tuple[Request, Reply] | None) -> list[Turn]:
        """Note what came of the request; None when none was made after all.

        `kind` as in `took`, None where that was not called. Return what it did to breaker and
        brake.
        """
        self._slots.release()
        turns: list[Turn] = []
        if exchange is None:
            self._breaker.abandoned()
            if kind is not None:
                self._brakes[kind].abandoned()
        else:
            turns = [*self._break(exchange[1]), *self._brake(*exchange)]
        self._ended.set()
        self._ended = asyncio.Event()
        for listener in self.listeners:
            listener()
        return turns

    def _break(self, reply: Reply) -> Iterator[Turn]:
        was_open = self._breaker.is_open
        self._learn(reply)
        if self._breaker.is_open != was_open:
            yield Turn(None, self._breaker.is_open, _why(reply))

    def _learn(self, reply: Reply) -> None:
        again = [each for each in reply.verdicts if isinstance(each, Again)]
        whole = [each for each in again if each.reason in WHOLE]
        for each in whole:
            if each.after_seconds is not None:
                self.hold(each.after_seconds)
        self._heed(whole)
        if len(whole) < len(reply.verdicts):
            self._breaker.success()
        elif all(each.reason in _ANSWERS for each in whole):
            self._breaker.abandoned()  # it works; it asks for less, or the brake is for it
        else:
            self._breaker.failure(*_now_and_draw())

    def _heed(self, whole: list[Again]) -> None:
        """Ask for less in a second where the destination does; more again as time passes."""
        now = asyncio.get_running_loop().time()
        if any(each.reason is Reason.RATE_LIMITED for each in whole):
            self._throttle.refused(now, self._bucket.rate, self._hold_until)
        else:
            self._throttle.taken(now)

    def _brake(self, request: Request, reply: Reply) -> Iterator[Turn]:
        kind = request.items[0].kind
        brake = self._brakes[kind]
        was_on = brake.is_open
        reasons = {each.reason if isinstance(each, Again) else None for each in reply.verdicts}
        if reasons == {Reason.UNAUTHORIZED}:
            brake.failure(*_now_and_draw(), map(id, request.items))
        elif reasons <= WHOLE:
            brake.abandoned()  # out of order, which says nothing of the settings
        else:
            brake.success()
        if brake.is_open != was_on:
            yield Turn(kind, brake.is_open, _why(reply))


_ANSWERS = frozenset({Reason.RATE_LIMITED, Reason.UNAUTHORIZED})


def _why(reply: Reply) -> str:
    return next((each.detail for each in reply.verdicts if isinstance(each, Again)), "")


def _now_and_draw() -> tuple[float, float]:
    return asyncio.get_running_loop().time(), random.random()  # noqa: S311 - jitter
