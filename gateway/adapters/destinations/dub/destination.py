"""The `Destination` for Dub: one request an event, in the dialect of the settings.

Dub's answers carry the outcome, so a success that can't be read is no answer.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from http import HTTPStatus

import orjson

from gateway.adapters.destinations.dub.current import CURRENT
from gateway.adapters.destinations.dub.dialect import Awaits, refused
from gateway.adapters.destinations.dub.of_2024 import OF_2024
from gateway.adapters.destinations.dub.settings import DubSettings
from gateway.adapters.destinations.dub.waiting import Waiting
from gateway.model.answers import hide, json_object, judge, reply, succeeded
from gateway.model.attempt import (
    Again,
    Answered,
    Item,
    Reply,
    Request,
    Skip,
    Unanswered,
    Verdict,
)
from gateway.model.envelope import Envelope
from gateway.model.outcome import Reason
from gateway.ports import Clock, HttpClient

_DIALECTS = {"current": CURRENT, "2024": OF_2024}


class DubDestination:
    """Leads, sales and customers; all of one customer in the log's order."""

    def __init__(self, settings: DubSettings, http: HttpClient, clock: Clock) -> None:
        self._settings = settings
        self._dialect = _DIALECTS[settings.dialect]
        self._waiting = Waiting(settings.unattributed_wait_seconds)
        self._http = http
        self._clock = clock

    @property
    def needs_contact(self) -> bool:
        """It takes no views."""
        return False

    @property
    def cart_step_ms(self) -> int:
        """It takes no carts."""
        return 1

    def prepare(self, envelope: Envelope, _time_ms: int) -> Item | Skip:
        """Make a request of the event; Dub books it when received and takes no time."""
        fields = envelope.fields()
        customer = fields.get("customerId")
        if not customer:
            limited = envelope.consent == "limited"
            return Skip(Reason.NO_CONSENT if limited else Reason.NO_CUSTOMER)
        make = self._dialect.prepare.get(envelope.type)
        if make is None:
            return Skip(Reason.NOTHING_TO_SEND)
        # One key for all kinds: a lead comes before the sale that needs it.
        return make(fields, f"{envelope.site}/{customer}", self._settings)

    def batch_limit(self, _kind: str) -> int:
        """Return 1."""
        return self._settings.batch_events

    def request(self, items: Sequence[Item]) -> Request:
        """Make the request for one item."""
        (item,) = items
        body = orjson.dumps(self._dialect.call(item).body)
        return Request(self._dialect.endpoints[item.kind], body, (item,))

    async def send(self, request: Request) -> Reply:
        """Make the request and read its outcome from the answer."""
        (item,) = request.items
        settings = self._settings
        secret = settings.api_key.get_secret_value()
        call = self._dialect.call(item)
        answer = await self._http.exchange(
            call.method,
            f"{settings.base_url}/{call.path}",
            {"Authorization": f"Bearer {secret}", "Content-Type": "application/json"},
            request.body,
            settings.timeout_seconds,
        )
        answer = _without_window(hide(answer, secret))
        return reply(answer, (self._verdict(item, answer),))

    async def start(self) -> None:
        """Nothing to open."""

    async def stop(self) -> None:
        """Nothing to close."""

    def _verdict(self, item: Item, answer: Answered | Unanswered) -> Verdict:
        known = self._dialect.known(item, answer) if isinstance(answer, Answered) else None
        if known is not None:
            return known
        verdict = judge(answer, self._clock.now_ms(), lambda answer: self._read(item, answer))
        return _within_the_window(verdict, answer)

    def _read(self, item: Item, answer: Answered) -> Verdict:
        if succeeded(answer.status):
            said = self._dialect.taken(item, json_object(answer.body))
        else:
            said = refused(item, answer, self._dialect.forgets)
        if isinstance(said, Awaits):
            return self._waiting.again(item, said)
        return said or _UNREADABLE


def _without_window(answer: Answered | Unanswered) -> Answered | Unanswered:
    """Drop a `Retry-After` that only says when the minute of the rate limit ends.

    Dub puts it on every error answer (dub.md 2), in epoch milliseconds; but for 429 it is no reason
    to wait, least of all for the destination as a whole.
    """
    if isinstance(answer, Unanswered) or answer.status == HTTPStatus.TOO_MANY_REQUESTS:
        return answer
    if _EPOCH_MS.fullmatch(answer.retry_after or "") is None:
        return answer
    return replace(answer, retry_after=None)


def _within_the_window(verdict: Verdict, answer: Answered | Unanswered) -> Verdict:
    """Mend the wait after a 429 that names the end of the minute, where our clock and Dub's differ.

    Else a clock that is ahead would not wait at all, and one behind for a quarter of an hour.
    """
    if not isinstance(verdict, Again) or verdict.reason is not Reason.RATE_LIMITED:
        return verdict
    after = max(_LEAST_SECONDS, verdict.after_seconds or 0.0)
    if isinstance(answer, Answered) and _EPOCH_MS.fullmatch(answer.retry_after or ""):
        after = min(_WINDOW_SECONDS, after)
    return replace(verdict, after_seconds=after)


_LEAST_SECONDS = 5.0
_WINDOW_SECONDS = 60.0
_EPOCH_MS = re.compile(r"\d{12,}", re.ASCII)
_UNREADABLE = Again(Reason.NO_ANSWER, detail="a success without the answer that Dub documents")
