"""`tail`, `trace` and `dead-letters` against a console that runs."""

import asyncio
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import orjson
import pytest
from click.testing import CliRunner, Result
from pydantic import SecretStr

from gateway import ledger
from gateway.cli import handling, ledger_commands
from gateway.cli.console_client import ConsoleClient
from gateway.cli.ledger_commands import dead_letters, tail, trace
from gateway.cli.ledger_text import pause_lines, plain, plain_json, table
from gateway.http.console import ConsoleSettings
from gateway.model import envelope
from gateway.model.dead import DeadLetter
from gateway.model.envelope import Envelope
from gateway.model.journal import Pause
from gateway.ports import Draft, Log
from tests.consoles import Console, running, some_life
from tests.written import SetClock, bury, delivered, event, letter, note, take

TOKEN = "a token of enough characters"


class Running:
    """A console in a thread of its own, as the commands wait for its answers."""

    def __init__(self, folder: Path, settings: ConsoleSettings) -> None:
        self.loop = asyncio.new_event_loop()
        self.console: Console
        self._started = threading.Event()
        self._over = asyncio.Event()
        self._thread = threading.Thread(
            target=lambda: self.loop.run_until_complete(self._run(folder, settings))
        )
        self._thread.start()
        assert self._started.wait(10)

    async def _run(self, folder: Path, settings: ConsoleSettings) -> None:
        async with running(folder, settings, SetClock()) as self.console:
            await some_life(self.console)
            self._started.set()
            await self._over.wait()

    def do(self, *works: "asyncio.Future[None] | object") -> None:
        """Run coroutines in the console's loop, then wait until all is in the index."""

        async def run() -> None:
            for work in works:
                await work  # type: ignore[misc] # coroutines of several result types
            await self.console.caught_up()

        asyncio.run_coroutine_threadsafe(run(), self.loop).result(10)

    def end(self) -> None:
        self.loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)
        self.loop.close()


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Running]:
    running_console = Running(tmp_path, ConsoleSettings())
    yield running_console
    running_console.end()


def run(console: Running, command: click.Command, *args: str) -> Result:
    return CliRunner().invoke(command, [*args, "--console", console.console.url])


def test_tail_shows_events_and_what_became_of_them(console: Running) -> None:
    result = run(console, tail, "--no-follow")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "2026-11-21 12:00:00.000Z  cart       e-cart  shop  c-1"
    assert "2026-11-21 12:00:00.000Z  cart       e-cart  voyado delivered" in lines
    assert any("dub dead (refused)" in line for line in lines)
    assert any("voyado waiting: POST carts at" in line for line in lines)


def test_tail_follows_until_interrupted(console: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    news: list[str] = []
    show = ledger_commands._show

    def watch(told: dict[str, str], shown: dict[str, set[str]], *, as_json: bool) -> None:
        show(told, shown, as_json=as_json)
        news.append(told["id"])
        if len(news) == 1:
            buffer = console.console.buffer
            console.do(take(buffer, event("e-new")), note(buffer, delivered(5)))
        if news[1:] and told["outcomes"][1]["state"] == "delivered":  # type: ignore[index]
            raise KeyboardInterrupt

    monkeypatch.setattr(ledger_commands, "_show", watch)
    result = run(console, tail, "-n", "1")
    assert result.exit_code == 0
    assert "e-new  voyado delivered" in result.stdout


def test_trace_tells_all_and_json_tells_the_same(console: Running) -> None:
    result = run(console, trace, "u-1")
    assert result.exit_code == 0
    for words in (
        "received from shop, consent full",
        "durable in the log at 0-2",
        "dub request POST carts",
        "dub   DEAD       (refused)  (gateway dead-letters show 0-0)",
        "the index reaches back to 2026-11-2",
    ):
        assert words in result.stdout
    told = json.loads(run(console, trace, "u-1", "--json").stdout)
    assert told["events"][0]["id"] == "e-lead"


def test_trace_of_what_waits_says_why_and_when_next(console: Running) -> None:
    result = run(console, trace, "c-2")
    assert "failed POST carts → 503 unavailable: Service Unavailable; next attempt" in result.stdout
    assert "WAITING" in result.stdout


def test_trace_of_nothing_says_how_far_was_looked_and_fails(console: Running) -> None:
    result = run(console, trace, "nothing", "--older")
    assert result.exit_code == 1
    assert "nothing found for nothing" in result.stdout
    assert "the logs before it were read to their beginning" in result.stdout


def test_trace_finds_what_ingest_rejected(console: Running) -> None:
    result = run(console, trace, "e-bad")
    assert result.exit_code == 0
    assert "rejected at ingest: missing_field: items[0].sku is unknown" in result.stdout


def test_dead_letters_are_listed_and_shown(console: Running) -> None:
    result = run(console, dead_letters, "list")
    assert result.exit_code == 0
    head, ingest, dub = result.stdout.splitlines()
    assert head.split() == [
        "ID",
        "BURIED",
        "DESTINATION",
        "REASON",
        "TYPE",
        "EVENT",
        "STATE",
        "WHY",
    ]
    assert ingest.index("ingest") == dub.index("dub") == head.index("DESTINATION")
    one = run(console, dead_letters, "list", "--limit", "1", "--json").stdout
    assert json.loads(one)["destination"] == "ingest"
    assert run(console, dead_letters, "list", "--reason", "expired").stdout == "no dead letter\n"
    shown = run(console, dead_letters, "show", "0-0")
    assert '"error": "sku"' in shown.stdout
    assert json.loads(run(console, dead_letters, "show", "0-0", "--json").stdout)["status"] == 400


@pytest.mark.parametrize(
    ("command", "args", "status", "words"),
    [
        (dead_letters, ["show", "0-99"], 1, "there is no dead letter 0-99"),
        (dead_letters, ["show", "x"], 2, "partition-offset"),
        (tail, ["--outcome", "lost"], 2, "outcome: one of"),
        (trace, ["x", "--before", "noon"], 2, "a time with its zone"),
        (trace, [], 2, "Missing argument 'ID'"),
    ],
)
def test_what_goes_wrong_is_one_line_and_a_status(
    console: Running, command: click.Command, args: list[str], status: int, words: str
) -> None:
    result = run(console, command, *args)
    assert result.exit_code == status
    assert words in result.stderr


def test_without_a_console_it_says_what_to_start() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        result = CliRunner().invoke(trace, ["x", "--console", url])
    assert result.exit_code == 1
    assert "is `gateway run` running?" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("url", ["127.0.0.1:8090", "ftp://x", "http://", "http://[", "http://x:y"])
def test_a_console_that_is_no_address_is_wrong_usage(url: str) -> None:
    result = CliRunner().invoke(trace, ["x", "--console", url])
    assert result.exit_code == 2
    assert "is no address" in result.stderr


def test_the_token_is_shown_to_its_own_console_only(tmp_path: Path) -> None:
    settings = ConsoleSettings(token=SecretStr(TOKEN))
    console = Running(tmp_path, settings)
    try:
        url = console.console.url
        args = ["u-1", "--console", url]
        assert "wants its token" in CliRunner().invoke(trace, args).stderr
        assert CliRunner().invoke(trace, [*args, "--token", TOKEN]).exit_code == 0
        own, other = tmp_path / "own.toml", tmp_path / "other.toml"
        listen = url.removeprefix("http://")
        own.write_text(f'[console]\nlisten = "{listen}"\ntoken = "{TOKEN}"\n')
        other.write_text(f'[console]\ntoken = "{TOKEN}"\n')
        assert CliRunner().invoke(trace, ["u-1", "--config", str(own)]).exit_code == 0
        assert CliRunner().invoke(trace, [*args, "--config", str(own)]).exit_code == 0
        result = CliRunner().invoke(trace, [*args, "--config", str(other)])
        assert "wants its token" in result.stderr
    finally:
        console.end()


def test_a_tail_waits_for_a_console_that_restarts(
    console: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []

    def pause(_: ConsoleClient, seconds: float) -> None:
        pauses.append(seconds)
        console.console.buffer.outage = False
        if len(pauses) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(ConsoleClient, "pause", pause)
    get = ConsoleClient.get

    def away(client: ConsoleClient, *path: str, **params: str | float | None) -> dict[str, object]:
        if params.get("wait"):
            client = ConsoleClient("http://127.0.0.1:1")
        return get(client, *path, **params)

    monkeypatch.setattr(ConsoleClient, "get", away)
    result = run(console, tail)
    assert result.exit_code == 0
    assert result.stderr.count("Waiting for it.") == 1


def test_hostile_data_cannot_steer_the_terminal(console: Running) -> None:
    evil = "\x1b]0;owned\x07\x9b31m\r\u202eabc\u2066\n"
    made = event("e-evil", "page", title=evil, cartReference=evil)
    buffer = console.console.buffer
    console.do(
        take(buffer, made),
        bury(buffer, letter(5, made, evil)),
        buffer.publish(Log.EVENTS, [Draft(0, evil.encode())]),
    )
    for command, args in [
        (tail, ["--no-follow"]),
        (trace, ["e-evil"]),
        (trace, ["0-6"]),
        (dead_letters, ["list"]),
        (dead_letters, ["show", "0-2"]),
    ]:
        for extra in ([], ["--json"]):
            shown = run(console, command, *args, *extra).stdout
            assert "owned" in shown or command is trace
            steering = [c for c in shown if c != "\n" and (not c.isprintable())]
            assert steering == []


def test_escapes_in_json_keep_their_meaning() -> None:
    text = "\x1b\x9b\u202e\u2028é"
    assert json.loads(plain_json({"a": text})) == {"a": text}
    assert plain("a\x1bb") == "a\\u001bb"
    assert list(table([("a", "bb"), ("ccc", "d")])) == ["a    bb", "ccc  d"]


def made_lead(name: str) -> Envelope:
    return event(name, "lead", eventName="Sign up", customerId="u-1")


def whole(offset: int, name: str) -> DeadLetter:
    """Return the letter of a lead that dub refused, as deliver writes it."""
    made = made_lead(name)
    return replace(letter(offset, made, "dub"), event=orjson.loads(envelope.encode(made)))


@pytest.fixture
def buried(console: Running) -> Running:
    """Return a console with the letters 0-2 to 0-4 more, each with its event."""
    buffer = console.console.buffer
    console.do(take(buffer, *(made_lead(f"e-{n}") for n in range(3))))
    console.do(bury(buffer, *(whole(5 + n, f"e-{n}") for n in range(3))))
    return console


def test_dead_letters_are_replayed_once_oldest_first(buried: Running) -> None:
    result = run(buried, dead_letters, "replay", "--destination", "dub", "--rate", "3", "--json")
    told = [json.loads(line) for line in result.stdout.splitlines()]
    # The first one's event is not whole: it was written by hand.
    assert [(each["id"], each["outcome"]) for each in told] == [
        ("0-0", "impossible"),
        ("0-2", "replayed"),
        ("0-3", "replayed"),
        ("0-4", "replayed"),
    ]
    assert result.exit_code == 1
    result = run(buried, dead_letters, "replay", "0-2", "0-3")
    first, _, summary = result.stdout.splitlines()
    assert first.startswith("0-2  already: replayed at 2026-11-21T12:00:")
    assert (result.exit_code, summary) == (0, "2 replayed or dropped before")
    buried.do()
    assert "replay 1 of 0-5, for dub alone" in run(buried, trace, "u-1").stdout


def test_a_list_that_is_cut_says_so(buried: Running) -> None:
    for as_json in ([], ["--json"]):
        cut = run(buried, dead_letters, "list", "--limit", "4", *as_json)
        assert "there are more than these 4" in cut.stderr
        assert len(cut.stdout.splitlines()) == (4 if as_json else 5)
        whole = run(buried, dead_letters, "list", "--limit", "5", *as_json)
        assert whole.stderr == ""
        assert len(whole.stdout.splitlines()) == (5 if as_json else 6)


def test_letters_are_dropped_only_with_yes(buried: Running) -> None:
    result = run(buried, dead_letters, "drop", "--destination", "dub")
    assert result.exit_code == 2
    assert "this would drop 4 dead letter(s): add --yes" in result.stderr
    result = run(buried, dead_letters, "drop", "--destination", "dub", "--yes")
    assert (result.exit_code, result.stdout) == (0, "4 dropped\n")
    buried.do()
    assert "no dead letter" in run(buried, dead_letters, "list", "--destination", "dub").stdout
    assert "dropped" in run(buried, dead_letters, "list", "--state", "dropped").stdout
    assert "dropped at" in run(buried, dead_letters, "show", "0-2").stdout
    result = run(buried, dead_letters, "drop", "--destination", "dub", "--yes")
    assert (result.exit_code, result.stdout) == (0, "no dead letter is meant\n")


def test_which_letters_are_meant_must_be_said(console: Running) -> None:
    for args in ([], ["0-0", "--all"], ["0-0", "--reason", "refused"]):
        result = run(console, dead_letters, "replay", *args)
        assert result.exit_code == 2
        assert "say which" in result.stderr


def test_a_replay_waits_for_a_console_that_can_not_do_it_now(
    buried: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handling, "AGAIN_SECONDS", 0.01)
    buried.console.buffer.fail_next(Log.EVENTS, written=True)
    result = run(buried, dead_letters, "replay", "0-2")
    assert result.exit_code == 0
    assert "Trying again." in result.stderr


def test_progress_is_told_in_lines_where_there_is_no_terminal(
    buried: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handling, "AT_ONCE", 1)
    monkeypatch.setattr(handling, "LINE_SECONDS", 0.0)
    result = run(buried, dead_letters, "drop", "0-2", "0-3", "--yes")
    assert result.stderr == "drop: 1 of 2\n"


def test_what_is_paused_is_told_once_and_when_it_goes_on() -> None:
    held = {"destination": "dub", "endpoint": "track/lead", "detail": "HTTP 401\x1b"}
    held["since"] = "2026-11-21T12:00:00Z"
    shown: set[str] = set()
    told = "dub track/lead IS PAUSED since 2026-11-21 12:00:00Z: HTTP 401\\u001b"
    assert list(pause_lines([held], shown)) == [told]
    assert list(pause_lines([held], shown)) == []
    assert list(pause_lines([], shown)) == ["dub track/lead goes on again"]


def test_tail_tells_what_is_paused(console: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    news: list[str] = []

    def watch(told: dict[str, str], _shown: object, **_: object) -> None:
        news.append(told["id"])
        if len(news) == 1:
            buffer = console.console.buffer
            on = Pause("dub", "lead", True, buffer._clock.now_ms(), "track/lead", "HTTP 401")  # noqa: FBT003 - on
            console.do(note(buffer, on), take(buffer, event("e-new")))
        else:
            raise KeyboardInterrupt

    monkeypatch.setattr(ledger_commands, "_show", watch)
    monkeypatch.setattr(ledger, "FRESH_SECONDS", 0.0)
    result = run(console, tail, "-n", "1")
    assert "dub track/lead IS PAUSED since" in result.stderr


def test_no_more_letters_a_second_are_replayed_than_was_asked_for(
    buried: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(ConsoleClient, "pause", lambda _, seconds: pauses.append(seconds))
    result = run(buried, dead_letters, "replay", "0-2", "0-3", "0-4", "--rate", "0.1")
    assert result.stdout == "3 replayed\n"
    # Ten seconds for each, less what it took; none after the last.
    assert len(pauses) == 2
    assert all(9.0 < each <= 10.0 for each in pauses)
