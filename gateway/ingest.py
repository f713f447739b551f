"""The use case: check the events of a request, drop duplicates, publish the rest.

The path of a request is `Ingest.take`: read the body, find the site, check the origin, settle the
terms (consent, clock, context), judge each event (`gateway.model.intake.CHECKS`), publish all in
one write, answer. Nothing is answered before the buffer has acknowledged (rule 1).
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from hashlib import sha256
from itertools import compress
from time import perf_counter
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple

import orjson
from pydantic import BaseModel, ConfigDict, Field, SecretStr, StringConstraints, ValidationError

from gateway.metrics import DEAD_LETTERS, EVENTS, PUBLISH_SECONDS, REJECTIONS
from gateway.model import dead, keys, posted
from gateway.model.answered import Answered
from gateway.model.envelope import Writer
from gateway.model.event import (
    CONTEXT,
    CONTEXT_BYTES,
    EVENT_BYTES,
    FIELDS,
    MAIL_TYPES,
    MAX_DEPTH,
    PERSONAL,
    TYPES,
    Consent,
    EventType,
    deeper_than,
    without_personal,
)
from gateway.model.instant import parse_microseconds, parse_ms
from gateway.model.intake import (
    AHEAD_MS,
    EVENT_LEVEL,
    SKEW_MS,
    Accepted,
    Ready,
    Terms,
    cleaned,
    judge,
)
from gateway.model.outcome import Rejection
from gateway.model.posted import Posted, TooManyError, WrongShapeError
from gateway.model.refusal import Refusal, refusal_of
from gateway.model.routing import partition_of
from gateway.model.window import DedupSettings
from gateway.ports import Buffer, BufferFailedError, BufferUnavailableError, Clock, Draft, Log

_log = logging.getLogger(__name__)

PUBLISH_DEADLINE_SECONDS = 5.0
KEPT_LETTERS = 2_000
"""Rejected events that wait to be kept; beyond, new ones are not."""
KEPT_BYTES = 8 * 1024 * 1024
KEEP_AGAIN_SECONDS = 1.0
LETTER_BYTES = EVENT_BYTES + CONTEXT_BYTES
MINUTE_MS = 60_000
COOKIE_FIELDS = frozenset({"visitorId", "clickId", "contactId"})
"""Ids that outlive the browser's own storage in the gateway's cookies."""
_LONGEST_ID = 64
NOTHING: Mapping[str, str] = MappingProxyType({})

SiteName = Annotated[str, StringConstraints(pattern="^[A-Za-z0-9_-]{1,64}$")]
"""Part of dedup keys, labels and addresses."""
Origin = Annotated[str, StringConstraints(pattern=r"^https?://[a-z0-9.\-\[\]:]+$")]
"""As browsers send it: scheme and host in lower case, no path, no closing slash."""


class SiteSettings(BaseModel):
    """A storefront: its keys, origins, destinations."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    browser_keys: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] = ()
    """Public: they stand in the page."""
    server_keys: tuple[SecretStr, ...] = ()
    """For the shop's back end, in `Authorization: Bearer`."""
    origins: tuple[Origin, ...] = ()
    """Where the pages are that may post with a browser key."""
    destinations: tuple[str, ...] = ()
    """The names of the destinations that get this site's events."""
    currency: Annotated[str, StringConstraints(pattern="^[A-Za-z]{3}$")] = "sek"
    """Of sales that do not say theirs."""
    browser_events: tuple[EventType, ...] = TYPES
    """What a browser key may post."""
    rejected_per_minute: Annotated[int, Field(ge=0, le=100_000)] = 600
    """How many rejected events are kept; each process counts for itself."""


class Receipt(NamedTuple):
    """What is known of a request besides its body."""

    received_ms: int
    origin: str | None = None
    bearer: str | None = None
    """The key of `Authorization: Bearer`."""
    gpc: bool = False
    """The request said `Sec-GPC: 1`."""
    prerender: bool = False
    """The browser rendered the page ahead of a visit that may never come."""
    user_agent: str = ""
    cookies: Mapping[str, str] = NOTHING
    """Of `visitorId`, `clickId`, `contactId`, what the gateway's own cookies say."""
    contact_since_ms: int | None = None
    """When the contact's cookie was first set; None where there is none."""


class Problem(StrEnum):
    """Why a whole request is refused."""

    NOT_A_REQUEST = "not_a_request"
    TOO_MANY_EVENTS = "too_many_events"
    UNKNOWN_KEY = "unknown_key"
    ORIGIN_NOT_ALLOWED = "origin_not_allowed"
    UNAVAILABLE = "unavailable"


@dataclass(slots=True, frozen=True)
class Refused:
    """A request that was not looked into, or could not be made durable."""

    problem: Problem
    detail: str = ""


@dataclass(slots=True)
class Result:
    """What came of one event."""

    index: int
    id: str | None
    outcome: Literal["accepted", "duplicate", "rejected"]
    refusal: Refusal | None = None


class Taken(NamedTuple):
    """A request whose events each have their result; what was accepted is durable."""

    results: list[Result]
    server: bool
    """A server key was used."""
    cookies: Mapping[str, str | None] = NOTHING
    """Ids to remember in cookies; only with full consent, only what the request brought.

    None: the cookie that came is to be forgotten, because consent is less than full or, for the
    contact, because the request says that there is none (`null`).
    """


class Site:
    """A site, and its counters: their children are looked up once."""

    def __init__(self, name: str, settings: SiteSettings) -> None:
        self.name = name
        self.settings = settings
        self.types = {True: frozenset(TYPES), False: frozenset(settings.browser_events)}
        self._events = {
            (kind, outcome): EVENTS.labels(name, kind, outcome)
            for kind in (*TYPES, *MAIL_TYPES, "unknown")
            for outcome in ("accepted", "duplicate", "rejected", "dropped")
        }

    def count(self, events: list[Any], results: list[Result]) -> None:
        """Count each event once, by type and outcome."""
        tally: dict[tuple[str, str], int] = {}
        label: tuple[str, str]
        for event, result in zip(events, results, strict=True):
            if result.refusal is None:
                label = (event["type"], result.outcome)
            else:
                label = (_kind(event), _outcome(result.refusal))
                REJECTIONS.labels(self.name, result.refusal.reason).inc()
            tally[label] = tally.get(label, 0) + 1
        for label, number in tally.items():
            self._events[label].inc(number)


def _kind(event: Any) -> str:
    """Return the type of an event that is refused: a label is never what somebody sent."""
    kind = event.get("type") if isinstance(event, dict) else None
    return kind if isinstance(kind, str) and kind in TYPES else "unknown"


def _outcome(refusal: Refusal) -> str:
    return "dropped" if refusal.reason is Rejection.CONSENT_NONE else "rejected"


class Keys:
    """Finds the site that a key is of. Server keys are kept and looked up as digests."""

    def __init__(self, sites: Mapping[str, SiteSettings]) -> None:
        self.origins = frozenset(each for site in sites.values() for each in site.origins)
        """All that any site allows: a preflight does not say its key."""
        self.by_name = {name: Site(name, settings) for name, settings in sites.items()}
        self._browser: dict[str, Site] = {}
        self._server: dict[bytes, Site] = {}
        for site in self.by_name.values():
            self._browser.update(dict.fromkeys(site.settings.browser_keys, site))
            for key in site.settings.server_keys:
                self._server[_digest(key.get_secret_value())] = site

    def find(self, key: str | None, bearer: str | None) -> Site | None:
        """Return the site; with a bearer key, a key in the body must be of the same site."""
        if bearer is None:
            return self._browser.get(key) if key is not None else None
        site = self._server.get(_digest(bearer))
        return site if key is None or self._browser.get(key) is site else None


def _digest(key: str) -> bytes:
    return sha256(key.encode("utf-8", "surrogateescape")).digest()  # a header may be any bytes


@dataclass(slots=True)
class _Plan:
    """What is to be done for a request: its results so far, what to write, whom to wait for."""

    results: list[Result] = field(default_factory=list)
    accepted: dict[str, Accepted] = field(default_factory=dict)
    """By the key for answers."""
    twins: set["_Write"] = field(default_factory=set)


class Ingest:
    """Takes requests in, into a started buffer. `start` before the first, `stop` after the last."""

    def __init__(
        self,
        sites: Mapping[str, SiteSettings],
        buffer: Buffer,
        clock: Clock,
        dedup: DedupSettings,
        *,
        publish_seconds: float = PUBLISH_DEADLINE_SECONDS,
    ) -> None:
        self.keys = Keys(sites)
        self._buffer = buffer
        self._clock = clock
        self._window_ms = int(dedup.window_seconds * 1000)
        self._publish_seconds = publish_seconds
        self._answered = Answered(self._window_ms)
        self._in_flight: dict[str, _Write] = {}
        self._rejected = RejectedEvents(buffer)

    def start(self) -> None:
        """Begin to keep rejected events. Needs a running event loop."""
        self._rejected.start()

    async def stop(self) -> None:
        """Write what is waiting to be kept, for as long as a publish may take."""
        await self._rejected.stop(self._publish_seconds)

    async def take(self, body: bytes, receipt: Receipt) -> Taken | Refused:
        """Take in a request's body, already inflated. Every way it can end is a value."""
        try:
            request = posted.read(body)
        except WrongShapeError as error:
            return Refused(Problem.NOT_A_REQUEST, str(error))
        except TooManyError:
            return Refused(Problem.TOO_MANY_EVENTS)
        site = self.keys.find(request.key, receipt.bearer)
        if site is None:
            return Refused(Problem.UNKNOWN_KEY)
        if receipt.bearer is None and receipt.origin not in site.settings.origins:
            return Refused(Problem.ORIGIN_NOT_ALLOWED)
        return await self._settle(site, request, receipt, len(body))

    async def again(self, letter: dead.DeadLetter) -> Taken | Refused:
        """Take an event that was rejected through the checks once more (replay).

        If it is rejected again its letter stays as it is, and no second one is kept.
        """
        kept = letter.event
        site = self.keys.by_name.get(letter.site)
        if site is None:
            return Refused(Problem.UNKNOWN_KEY)
        sent_at = kept["sentAt"]
        sent_us = parse_microseconds(sent_at) if sent_at else None
        request = Posted(None, sent_at, sent_us, kept["context"], [kept["event"]])
        receipt = Receipt(kept["receivedAt"], bearer="" if kept["server"] else None)
        return await self._settle(site, request, receipt, LETTER_BYTES, keep=False)

    async def bring(self, site: str, events: Sequence[dict[str, Any]]) -> Taken | Refused:
        """Take in a source's events for a site that there is: they are valid, and of MAIL_TYPES.

        Like posted ones they are durable when this returns. How old they are says nothing here:
        the source tells which ones are new, and the window tells what it brings twice.
        """
        owner = self.keys.by_name[site]
        terms = self._terms_of_source(owner)
        plan = _Plan()
        for index, event in enumerate(events):
            outcome = self._enter(plan, _brought(site, event), terms)
            plan.results.append(Result(index, event["id"], outcome))
        try:
            await self._publish(plan, terms)
        except BufferFailedError as error:
            return Refused(Problem.UNAVAILABLE, str(error))
        owner.count(list(events), plan.results)
        return Taken(plan.results, server=True)

    def _terms_of_source(self, site: Site) -> Terms:
        """Settle a source's terms: it speaks for the shop, as a server key does, by its own clock.

        Its mail was sent on the shop's own account, so consent to the script is not in question.
        """
        now_ms = self._clock.now_ms()
        return Terms(
            site=site.name,
            currency=site.settings.currency,
            types=frozenset(MAIL_TYPES),
            server=True,
            consent="full",
            now_ms=now_ms,
            received_ms=now_ms,
            sent_us=now_ms * 1000,
            latest_us=now_ms * 1000,
            skewed=False,
            window_ms=self._window_ms,
            large=False,
            context={},
            body_context={},
            contact_since_ms=None,
            marks=(),
        )

    async def _settle(
        self, site: Site, request: Posted, receipt: Receipt, size: int, *, keep: bool = True
    ) -> Taken | Refused:
        terms = self._terms(site, request, receipt, size)
        plan = self._plan(request.events, terms)
        if plan.accepted or plan.twins:
            try:
                await self._publish(plan, terms)
            except BufferFailedError as error:
                return Refused(Problem.UNAVAILABLE, str(error))
        site.count(request.events, plan.results)
        rejected = [result for result in plan.results if result.refusal is not None]
        if rejected and keep:
            self._keep_rejected(site, request, receipt, rejected)
        return Taken(plan.results, receipt.bearer is not None, _cookies(plan, terms, receipt))

    def _terms(self, site: Site, request: Posted, receipt: Receipt, size: int) -> Terms | Refusal:
        """Settle what all events are judged by; where that can't be, why all are refused."""
        consent = _consent(request, receipt)
        body_context = _checked_context(request.context, size)
        if consent == "none":
            return _NO_CONSENT
        if isinstance(body_context, Refusal):
            return body_context
        server = receipt.bearer is not None
        context = _stored_context(body_context, receipt, consent)
        received_us = receipt.received_ms * 1000
        sent_us = received_us if request.sent_us is None else request.sent_us
        skewed = abs(received_us - sent_us) > SKEW_MS * 1000
        return Terms(
            site=site.name,
            currency=site.settings.currency,
            types=site.types[server],
            server=server,
            consent=consent,
            now_ms=self._clock.now_ms(),
            received_ms=receipt.received_ms,
            sent_us=sent_us,
            latest_us=sent_us + AHEAD_MS * 1000,
            skewed=skewed,
            window_ms=self._window_ms,
            large=size > EVENT_BYTES,
            context=context,
            body_context=body_context,
            contact_since_ms=None if server else receipt.contact_since_ms,
            marks=_marks(receipt, skewed=skewed),
        )

    def _plan(self, events: list[Any], terms: Terms | Refusal) -> _Plan:
        """Judge each event; tell apart what is new, what is known, and what is being written."""
        if isinstance(terms, Refusal):
            results = [
                Result(index, _id(raw), "rejected", terms) for index, raw in enumerate(events)
            ]
            return _Plan(results)
        plan = _Plan()
        for index, raw in enumerate(events):
            judged = judge(raw, terms)
            if isinstance(judged, Refusal):
                result = Result(index, _id(raw), "rejected", judged)
            else:
                result = Result(
                    index, judged.ready[0].event["id"], self._enter(plan, judged, terms)
                )
            plan.results.append(result)
        return plan

    def _enter(
        self, plan: _Plan, event: Accepted, terms: Terms
    ) -> Literal["accepted", "duplicate"]:
        key = event.answer_key
        if key in self._in_flight:
            plan.twins.add(self._in_flight[key])
            return "duplicate"
        if key in plan.accepted or self._answered.holds(key, terms.now_ms):
            return "duplicate"
        plan.accepted[key] = event
        return "accepted"

    async def _publish(self, plan: _Plan, terms: Terms | Refusal) -> None:
        """Return once all that is new, and what twins are writing, is durable.

        Raises BufferUnavailableError, also when the answer is late; what was late may be written
        nonetheless, and its retry is then a duplicate by rule 2.
        """
        try:
            async with asyncio.timeout(self._publish_seconds):
                if isinstance(terms, Terms) and plan.accepted:
                    await self._write(plan.accepted, terms)
                if plan.twins:
                    await asyncio.wait(plan.twins)
        except TimeoutError:
            raise BufferUnavailableError("the buffer did not answer in time") from None
        if not all(twin.result() for twin in plan.twins):
            raise BufferUnavailableError("the buffer did not take a twin")

    async def _write(self, accepted: Mapping[str, Accepted], terms: Terms) -> None:
        """Make the one write of all that a request brought.

        Only what was acknowledged is known from here on; the rest may be posted again.
        """
        writer = Writer(terms.site, terms.received_ms, terms.consent, terms.context, terms.marks)
        partitions = self._buffer.partitions
        drafts = [
            Draft(partition_of(each.routing_key, partitions), writer.write(*each[1:]))
            for one in accepted.values()
            for each in one.ready
        ]
        write: _Write = asyncio.get_running_loop().create_future()
        self._in_flight.update(dict.fromkeys(accepted, write))
        began = perf_counter()
        durable = False
        try:
            await self._buffer.publish(Log.EVENTS, drafts)
            durable = True
            PUBLISH_SECONDS.observe(perf_counter() - began)
            self._answered.add(accepted, self._clock.now_ms())
        finally:
            for key in accepted:
                del self._in_flight[key]
            write.set_result(durable)

    def _keep_rejected(
        self, site: Site, request: Posted, receipt: Receipt, results: list[Result]
    ) -> None:
        consent = _consent(request, receipt)
        if consent == "none":
            return
        context = {**_keepable(request.context, consent), "consent": consent}
        if _too_much(context, CONTEXT_BYTES):
            context = {"consent": consent}
        for result in results:
            if result.refusal is None or not self._rejected.has_room(site, receipt.received_ms):
                continue
            letter = dead.DeadLetter(
                destination=dead.INGEST,
                site=site.name,
                reason=result.refusal.reason,
                time_ms=receipt.received_ms,
                offset=None,
                event={
                    "event": _kept_event(request.events[result.index], consent),
                    "context": context,
                    "sentAt": request.sent_at,
                    "receivedAt": receipt.received_ms,
                    "server": receipt.bearer is not None,
                },
                detail=result.refusal.message,
            )
            self._rejected.keep(letter)


def _brought(site: str, event: dict[str, Any]) -> Accepted:
    time_ms = parse_ms(event["time"])
    key = keys.dedup_key(site, event, time_ms * 1000)
    return Accepted(key, [Ready(keys.routing_key(event, {}), key, time_ms, event, None)])


_Write = asyncio.Future[bool]
"""Whether what is being written became durable."""


class RejectedEvents:
    """Keeps rejected events on the `dead` log, in the background: no answer waits for it."""

    def __init__(self, buffer: Buffer) -> None:
        self._buffer = buffer
        self._waiting: list[Draft] = []
        self._bytes = 0
        self._minutes: dict[str, tuple[int, int]] = {}
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._ending = False

    def start(self) -> None:
        """Begin to write."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self, seconds: float) -> None:
        """Write what waits; what the buffer does not take in time is given up, and said."""
        if self._task is None:
            return
        self._ending = True
        self._news.set()
        _, late = await asyncio.wait({self._task}, timeout=seconds)
        if late:
            self._task.cancel()
            await asyncio.wait({self._task})
            _log.warning("%d rejected events were not kept: no answer", len(self._waiting))

    def has_room(self, site: Site, now_ms: int) -> bool:
        """Whether one more may be kept now; if so it counts for the site's minute."""
        minute, count = self._minutes.get(site.name, (0, 0))
        if minute != now_ms // MINUTE_MS:
            minute, count = now_ms // MINUTE_MS, 0
        room = len(self._waiting) < KEPT_LETTERS and self._bytes < KEPT_BYTES
        if not room or count >= site.settings.rejected_per_minute:
            return False
        self._minutes[site.name] = (minute, count + 1)
        return True

    def keep(self, letter: dead.DeadLetter) -> None:
        """Take a letter to be written soon."""
        draft = Draft(partition_of(letter.site, self._buffer.partitions), dead.encode(letter))
        self._waiting.append(draft)
        self._bytes += len(draft.value)
        DEAD_LETTERS.labels(dead.INGEST, letter.reason).inc()
        self._news.set()

    async def _run(self) -> None:
        while self._waiting or not self._ending:
            await self._news.wait()
            self._news.clear()
            drafts = list(self._waiting)
            if not drafts:
                continue
            try:
                await self._buffer.publish(Log.DEAD, drafts)
            except BufferFailedError:
                self._news.set()
                await asyncio.sleep(KEEP_AGAIN_SECONDS)
            else:
                del self._waiting[: len(drafts)]
                self._bytes -= sum(len(draft.value) for draft in drafts)


# What a request's circumstances mean


_validated = CONTEXT.validator.validate_python  # without the adapter's own layer


def _consent(request: Posted, receipt: Receipt) -> Consent:
    """Missing means limited for a browser; `Sec-GPC: 1` allows no more than limited."""
    said = request.context.get("consent")
    if said == "none":
        return "none"
    if said is None and receipt.bearer is not None:
        said = "full"
    return "full" if said == "full" and not receipt.gpc else "limited"


def _checked_context(context: dict[str, Any], size: int) -> dict[str, Any] | Refusal:
    if size > CONTEXT_BYTES and _too_much(context, CONTEXT_BYTES):
        return _LARGE_CONTEXT
    try:
        return cleaned(_validated(context))
    except ValidationError as error:
        return refusal_of(error, "context")


def _stored_context(
    body: dict[str, Any], receipt: Receipt, consent: Literal["full", "limited"]
) -> dict[str, Any]:
    """Fill in from the cookies what the body does not mention, if that is allowed."""
    if consent == "limited":
        stored = without_personal(body)
    else:
        stored = {**receipt.cookies, **body} if receipt.bearer is None else dict(body)
    stored.pop("consent", None)
    return stored


def _marks(receipt: Receipt, *, skewed: bool) -> tuple[str, ...]:
    applies = (
        skewed,
        receipt.bearer is not None,
        _is_bot(receipt.user_agent),
        receipt.prerender,
    )
    return tuple(compress(_MARKS, applies)) if any(applies) else ()


_MARKS = ("clock", "server", "bot", "prerender")


@lru_cache(maxsize=1024)  # most visitors have one of a few hundred browsers
def _is_bot(user_agent: str) -> bool:
    """Whether a program says that it is one. Its events are marked, not dropped."""
    lower = user_agent.lower()
    return any(word in lower for word in ("bot", "crawl", "spider", "headless", "lighthouse"))


def _cookies(plan: _Plan, terms: Terms | Refusal, receipt: Receipt) -> dict[str, str | None]:
    """Return what to remember, and what to forget of that which came."""
    if receipt.bearer is not None:
        return {}
    if terms is _NO_CONSENT or (isinstance(terms, Terms) and terms.consent == "limited"):
        return dict.fromkeys(receipt.cookies)
    if isinstance(terms, Refusal) or all(result.refusal for result in plan.results):
        return {}
    return {
        name: value or None
        for name, value in _said(plan, terms).items()
        if value or (name == "contactId" and name in receipt.cookies)
    }


def _said(plan: _Plan, terms: Terms) -> dict[str, Any]:
    """Return the context's ids, else those of the latest event that has them."""
    context = terms.body_context
    found = {name: context[name] for name in COOKIE_FIELDS if name in context}
    for accepted in plan.accepted.values():
        event = accepted.ready[0].event
        if not COOKIE_FIELDS.isdisjoint(event):
            own = (COOKIE_FIELDS - context.keys()) & event.keys()
            found |= {name: event[name] for name in own}
    return found


# What is kept of a rejected event


def _kept_event(raw: Any, consent: Consent) -> Any:
    """Return what may be kept; of one that is too large or too deep, its id and type."""
    if not isinstance(raw, dict):
        return None if consent == "limited" or _too_much(raw, EVENT_BYTES) else raw
    if _too_much(raw, EVENT_BYTES):
        return {name: raw[name] for name in ("id", "type") if _is_short(raw.get(name))}
    return _keepable(raw, consent)


def _keepable(fields: dict[str, Any], consent: Consent) -> dict[str, Any]:
    """Drop what consent does not allow: with limited consent also what nobody knows."""
    if consent == "limited":
        fields = {name: fields[name] for name in fields.keys() & FIELDS - PERSONAL}
    return cleaned(fields)


def _too_much(value: Any, most_bytes: int) -> bool:
    """Whether a value is too large or too deep to be kept."""
    try:
        return len(orjson.dumps(value)) > most_bytes or deeper_than(
            value, MAX_DEPTH - EVENT_LEVEL + 1
        )
    except orjson.JSONEncodeError:
        return True


def _id(raw: Any) -> str | None:
    """Return the id as it came, if it is one."""
    found = raw.get("id") if isinstance(raw, dict) else None
    return found if _is_short(found) else None


def _is_short(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_ID


_NO_CONSENT = Refusal(
    Rejection.CONSENT_NONE,
    "context.consent",
    "The visitor gave no consent, so nothing is kept; do not send events without it.",
)
_LARGE_CONTEXT = Refusal(
    Rejection.TOO_LARGE, "context", "context may have 16 KiB as compact JSON; send less in it."
)
