"""The console's API: what it answers, and to whom."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from pydantic import SecretStr, ValidationError

from gateway.http import console as module
from gateway.http.console import ConsoleSettings
from gateway.model import dead, envelope
from gateway.model.instant import format_ms
from gateway.model.outcome import Outcome, Reason
from gateway.ports import Draft, Log
from tests.consoles import Console, running, some_life
from tests.written import SetClock, attempt, bury, delivered, event, judged, letter, note, take

TOKEN = "a token of enough characters"


@pytest.fixture
async def console(tmp_path: Path) -> AsyncIterator[Console]:
    async with running(tmp_path, ConsoleSettings(), SetClock()) as console:
        yield console


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def get(
    http: aiohttp.ClientSession, console: Console, path: str, **params: Any
) -> dict[str, Any]:
    async with http.get(console.url + path, params=params) as answer:
        assert answer.status == 200, await answer.text()
        told = await answer.json()
        assert isinstance(told, dict)
        return told


async def refused(
    http: aiohttp.ClientSession, url: str, status: int, headers: dict[str, str] | None = None
) -> str:
    async with http.get(url, headers=headers) as answer:
        assert answer.status == status
        return str((await answer.json())["message"])


async def test_events_are_newest_first_with_their_outcomes(
    console: Console, http: aiohttp.ClientSession
) -> None:
    await some_life(console)
    told = await get(http, console, "/api/events", limit=2)
    assert [each["id"] for each in told["events"]] == ["e-page", "e-cart"]
    assert told["events"][1]["copyOf"] == "0-0"
    told = await get(http, console, "/api/events", limit=50, after=told["cursor"])
    assert [each["id"] for each in told["events"]] == ["e-lead", "e-late", "e-cart"]
    assert told["cursor"] is None
    states = {each["destination"]: each["state"] for each in told["events"][0]["outcomes"]}
    assert states == {"dub": "dead", "hook": "delivered"}


async def test_events_are_filtered(console: Console, http: aiohttp.ClientSession) -> None:
    await some_life(console)
    told = await get(http, console, "/api/events", outcome="waiting", destination="voyado")
    assert [each["id"] for each in told["events"]] == ["e-late"]
    [waiting] = [e for e in told["events"][0]["outcomes"] if e["destination"] == "voyado"]
    assert "503 (unavailable): Service Unavailable; next attempt from" in waiting["explanation"]


async def test_a_trace_tells_receipt_requests_answers_and_outcomes(
    console: Console, http: aiohttp.ClientSession
) -> None:
    await some_life(console)
    told = await get(http, console, "/api/trace", id="u-1")
    [life] = told["events"]
    assert life["receipt"]["consent"] == "full"
    assert life["receipt"]["event"]["customerId"] == "u-1"
    dub = [each for each in life["steps"] if each["destination"] == "dub"]
    assert [(each["kind"], each["outcome"], each["reason"]) for each in dub] == [
        ("attempt", None, None),
        ("settled", "dead", "refused"),
    ]
    assert next(e["deadLetter"] for e in life["outcomes"] if e["destination"] == "dub") == "0-0"


async def test_what_is_not_found_says_how_far_was_looked(
    console: Console, http: aiohttp.ClientSession
) -> None:
    told = await get(http, console, "/api/trace", id="nothing")
    assert told["events"] == []
    assert told["searched"]["complete"] is True
    told = await get(http, console, "/api/trace", id="nothing", before="2026-11-01T00:00:00Z")
    assert told["searched"]["backTo"] == "2026-11-01T00:00:00.000Z"


async def test_a_record_that_is_no_event_is_shown_as_it_is(
    console: Console, http: aiohttp.ClientSession
) -> None:
    await console.buffer.publish(Log.EVENTS, [Draft(0, b"\xff<script>")])
    await console.caught_up()
    told = await get(http, console, "/api/trace", id="0-0")
    assert told["events"][0]["receipt"] == {"raw": "\ufffd<script>"}


async def test_dead_letters_keep_request_answer_and_event(
    console: Console, http: aiohttp.ClientSession
) -> None:
    await some_life(console)
    told = await get(http, console, "/api/dead-letters")
    assert [each["destination"] for each in told["deadLetters"]] == ["ingest", "dub"]
    letter = await get(http, console, "/api/dead-letters/0-0")
    assert letter["answer"] == '{"error": "sku"}'
    assert letter["event"]["event"]["id"] == "e-lead"
    assert letter["eventPlace"] == "0-2"


async def test_the_summary_tells_of_each_destination(
    console: Console, http: aiohttp.ClientSession
) -> None:
    await some_life(console)
    told = await get(http, console, "/api/summary")
    assert {each["destination"] for each in told["destinations"]} == {"dub", "hook", "voyado"}
    assert told["reading"]["behind"] == 0


async def test_a_tail_answers_as_soon_as_something_is_new(
    console: Console, http: aiohttp.ClientSession
) -> None:
    cursor = (await get(http, console, "/api/tail"))["cursor"]
    waiting = asyncio.create_task(get(http, console, "/api/tail", after=cursor, wait=20))
    await take(console.buffer, event("e-1"))
    told = await asyncio.wait_for(waiting, 5)
    assert [each["id"] for each in told["events"]] == ["e-1"]
    await note(console.buffer, delivered(0))
    told = await get(http, console, "/api/tail", after=told["cursor"], wait=20)
    assert told["events"][0]["outcomes"][1]["state"] == "delivered"


async def test_a_tail_that_waits_does_not_hold_up_the_end(
    console: Console, http: aiohttp.ClientSession
) -> None:
    cursor = (await get(http, console, "/api/tail"))["cursor"]
    url = f"{console.url}/api/tail?wait=25&after={cursor}"
    waiting = asyncio.create_task(refused(http, url, 503))
    async with asyncio.timeout(5):
        while not console.server.app[module._TAILS].waiting:
            await asyncio.sleep(0.01)
        await console.server.close()
    assert await waiting == "the console is stopping"


async def test_only_so_many_tails_may_wait(
    console: Console, http: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_TAILS", 0)
    message = await refused(http, console.url + "/api/tail", 503)
    assert "close one" in message


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("/api/trace", 400, "id: give one"),
        ("/api/trace?id=" + "x" * 201, 400, "at most 200"),
        ("/api/trace?id=x&before=yesterday", 400, "a time with its zone"),
        ("/api/events?limit=0", 400, "limit: a number from 1 to 500"),
        ("/api/events?limit=many", 400, "limit: a number"),
        ("/api/tail?wait=nan", 400, "wait: a number from 0 to 25"),
        ("/api/events?outcome=lost", 400, "outcome: one of dead, delivered"),
        ("/api/events?site=" + "x" * 101, 400, "site: too long"),
        ("/api/dead-letters/17", 400, "partition-offset"),
        ("/api/dead-letters/0-17", 404, "no dead letter 0-17"),
        ("/api/nothing", 404, "Not Found"),
    ],
)
async def test_a_wrong_question_is_told_what_would_be_right(
    console: Console, http: aiohttp.ClientSession, path: str, status: int, words: str
) -> None:
    assert words in await refused(http, console.url + path, status)


async def test_a_failing_buffer_is_said_in_words(
    console: Console, http: aiohttp.ClientSession
) -> None:
    console.buffer.outage = True
    message = await refused(http, console.url + "/api/dead-letters/0-5", 503)
    assert "the buffer does not answer" in message


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:8090", "10.0.0.1", "[::2]"]
)
async def test_a_name_that_was_pointed_at_loopback_gets_nothing(
    console: Console, http: aiohttp.ClientSession, host: str
) -> None:
    for path in ("/", "/api/events"):
        message = await refused(http, console.url + path, 403, {"Host": host})
        assert message == "open the console by 127.0.0.1 or localhost"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8090", "[::1]", "[::1]:5"])
async def test_loopback_names_are_served(
    console: Console, http: aiohttp.ClientSession, host: str
) -> None:
    async with http.get(console.url + "/api/events", headers={"Host": host}) as answer:
        assert answer.status == 200


async def test_another_sites_page_gets_nothing(
    console: Console, http: aiohttp.ClientSession
) -> None:
    headers = {"Sec-Fetch-Site": "cross-site"}
    assert "another site" in await refused(http, console.url + "/api/events", 403, headers)


@pytest.mark.parametrize(
    "shown", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"]
)
async def test_with_a_token_nothing_is_told_without_it(
    tmp_path: Path, http: aiohttp.ClientSession, shown: str
) -> None:
    settings = ConsoleSettings(listen="0.0.0.0:8090", token=SecretStr(TOKEN))
    async with running(tmp_path, settings, SetClock()) as console:
        headers = {"Authorization": shown}
        for path in ("events", "tail", "trace?id=1", "dead-letters", "summary", "dead-letters/0-0"):
            url = f"{console.url}/api/{path}"
            assert "wants its token" in await refused(http, url, 401, headers)
        right = {"Authorization": f"Bearer {TOKEN}", "Host": "console.shop.example"}
        async with http.get(console.url + "/api/events", headers=right) as answer:
            assert answer.status == 200


async def test_the_page_may_load_nothing_from_elsewhere_nor_run_what_it_shows(
    console: Console, http: aiohttp.ClientSession
) -> None:
    for path, kind in [("/", "text/html"), ("/console.js", "text/javascript")]:
        async with http.get(console.url + path) as answer:
            assert answer.status == 200
            assert answer.content_type == kind
            policy = answer.headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("listen", ["0.0.0.0:8090", "[::]:8090", "192.168.1.5:8090", "console:80"])
def test_beyond_loopback_a_token_is_required(listen: str) -> None:
    with pytest.raises(ValidationError, match=r"personal data: on .* it needs a token"):
        ConsoleSettings(listen=listen)
    assert ConsoleSettings(listen=listen, token=SecretStr(TOKEN)).listen == listen


def test_a_short_token_is_refused_and_not_shown() -> None:
    with pytest.raises(ValidationError, match="too short") as raised:
        ConsoleSettings(token=SecretStr("hunter2"))
    assert "hunter2" not in str(raised.value)


async def post(
    http: aiohttp.ClientSession, console: Console, path: str, status: int = 200, **more: Any
) -> dict[str, Any]:
    async with http.post(console.url + path, **more) as answer:
        assert answer.status == status, await answer.text()
        told = await answer.json()
        assert isinstance(told, dict)
        return told


async def test_a_letter_is_replayed_and_the_trace_shows_the_chain(
    console: Console, http: aiohttp.ClientSession
) -> None:
    await take(console.buffer, event("e-0", cartReference="c-0"))
    made = event("e-1", "lead", eventName="Sign up", customerId="u-9")
    await take(console.buffer, made)
    await note(console.buffer, judged(1, Outcome.DEAD, Reason.REFUSED, "dub"))
    whole = replace(letter(1, made, "dub"), event=orjson.loads(envelope.encode(made)))
    await bury(console.buffer, whole)
    told = await post(http, console, "/api/dead-letters/replay", json={"ids": ["0-0"]})
    assert told["results"] == [{"id": "0-0", "outcome": "replayed", "detail": "", "replay": "0-2"}]
    await note(console.buffer, attempt(2, destination="dub"), delivered(2, destination="dub"))
    await console.caught_up()
    again = await post(http, console, "/api/dead-letters/replay", json={"ids": ["0-0"]})
    assert again["results"][0]["outcome"] == "already"
    replayed, first = (await get(http, console, "/api/trace", id="u-9"))["events"]
    assert replayed["receipt"]["replay"]["of"] == first["place"] == "0-1"
    assert [(e["destination"], e["state"]) for e in replayed["outcomes"]] == [("dub", "delivered")]
    [dub] = [each for each in first["outcomes"] if each["destination"] == "dub"]
    assert (dub["state"], dub["handled"]["replay"]) == ("dead", "0-2")
    told = await get(http, console, "/api/dead-letters", state="open")
    assert told["deadLetters"] == []
    told = await get(http, console, "/api/dead-letters", state="replayed")
    assert [each["id"] for each in told["deadLetters"]] == ["0-0"]


async def test_a_letter_that_is_dropped_is_open_no_more(
    console: Console, http: aiohttp.ClientSession
) -> None:
    await some_life(console)
    await post(http, console, "/api/dead-letters/drop", json={"ids": ["0-0"]})
    await console.caught_up()
    told = await get(http, console, "/api/dead-letters", state="open")
    assert [each["id"] for each in told["deadLetters"]] == ["0-1"]
    assert (await get(http, console, "/api/dead-letters/0-0"))["state"] == "dropped"


async def test_a_rejected_event_goes_through_the_checks_again(
    console: Console, http: aiohttp.ClientSession
) -> None:
    now_ms = console.buffer._clock.now_ms()
    good = {"type": "page", "id": "e-good", "time": format_ms(now_ms), "title": "Shoes"}
    for posted in (good, {**good, "id": "e-bad", "title": 7}):
        kept = {
            "event": posted,
            "context": {"consent": "limited"},
            "sentAt": None,
            "receivedAt": now_ms,
            "server": False,
        }
        made = dead.DeadLetter("ingest", "shop", "type_not_allowed", 0, None, kept)
        await bury(console.buffer, made)
    ids = {"ids": ["0-0", "0-1"]}
    told = await post(http, console, "/api/dead-letters/replay", json=ids)
    assert [each["outcome"] for each in told["results"]] == ["replayed", "rejected"]
    assert "wrong_type" in told["results"][1]["detail"]
    await console.caught_up()
    assert len((await get(http, console, "/api/trace", id="e-good"))["events"]) == 1
    again = await post(http, console, "/api/dead-letters/replay", json=ids)
    assert [each["outcome"] for each in again["results"]] == ["already", "rejected"]


@pytest.mark.parametrize("body", [b"", b"[]", b'{"ids": []}', b'{"ids": ["x"]}', b'{"ids": [1]}'])
async def test_what_names_no_letters_is_refused(
    console: Console, http: aiohttp.ClientSession, body: bytes
) -> None:
    headers = {"Content-Type": "application/json"}
    await post(http, console, "/api/dead-letters/drop", 400, data=body, headers=headers)


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (415, {"Content-Type": "text/plain"}),
        (403, {"Content-Type": "application/json", "Origin": "https://evil.example"}),
        (403, {"Content-Type": "application/json", "Sec-Fetch-Site": "cross-site"}),
    ],
)
async def test_another_page_may_have_nothing_done(
    console: Console, http: aiohttp.ClientSession, status: int, headers: dict[str, str]
) -> None:
    await some_life(console)
    body = b'{"ids": ["0-0"]}'
    await post(http, console, "/api/dead-letters/drop", status, data=body, headers=headers)
    await console.caught_up()
    assert (await get(http, console, "/api/dead-letters/0-0"))["state"] == "open"
