"""How fast requests may begin: rate, concurrency, breaker and `Retry-After`, of one destination.

Rates are for the destination as a whole; a replica uses its share (owned partitions of all).
"""

import asyncio
import random

from gateway.deliver.settings import DestinationSettings
from gateway.model.attempt import WHOLE, Again, Reply
from gateway.model.breaker import Breaker
from gateway.model.bucket import Bucket
from gateway.model.outcome import Reason


class Pace:
    """Shared by the workers of one destination in one process."""

    def __init__(self, settings: DestinationSettings, partitions: int) -> None:
        self._rate = settings.rate_per_second
        self._partitions = partitions
        self._owned = 0
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._breaker = Breaker()
        self._bucket = Bucket(self._rate, asyncio.get_running_loop().time())
        self._hold_until = 0.0
        self._ended = asyncio.Event()
        """Set, and replaced, whenever a request ends: who waits for the breaker looks again."""

    @property
    def is_open(self) -> bool:
        """Whether the breaker holds requests back."""
        return self._breaker.is_open

    def joined(self, partitions: int) -> None:
        """Count partitions owned (negative: given up); the rate follows."""
        self._owned += partitions
        self._bucket.rate = self._rate * max(1, self._owned) / self._partitions

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
            wait = max(trial, self._hold_until - now, self._bucket.wait_seconds(now))
            if wait <= 0:
                return
            await asyncio.sleep(wait)

    def end(self, reply: Reply | None) -> None:
        """Note what came of the request; None when none was made after all."""
        self._slots.release()
        if reply is None:
            self._breaker.abandoned()
        else:
            self._learn(reply)
        self._ended.set()
        self._ended = asyncio.Event()

    def _learn(self, reply: Reply) -> None:
        now = asyncio.get_running_loop().time()
        again = [each for each in reply.verdicts if isinstance(each, Again)]
        whole = [each for each in again if each.reason in WHOLE]
        for each in whole:
            if each.after_seconds is not None:
                self._hold_until = max(self._hold_until, now + each.after_seconds)
        if len(whole) < len(reply.verdicts):
            self._breaker.success()
        elif all(each.reason is Reason.RATE_LIMITED for each in whole):
            self._breaker.abandoned()  # it works, it only asks for less
        else:
            self._breaker.failure(now, random.random())  # noqa: S311 - jitter
