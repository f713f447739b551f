"""`gateway postgrid …` as a person at a terminal sees it, against the stand-in."""

import asyncio
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import orjson
import pytest
from aiohttp import web
from click.testing import CliRunner, Result

from gateway.adapters.postgrid.calls import CALLS
from gateway.cli.main import gateway
from gateway.cli.postgrid_commands import postgrid_command
from gateway.cli.postgrid_text import template_warnings, timeline_lines
from gateway.sandbox.control import CONTROL
from gateway.sandbox.faults import FAULT, FaultBoard
from gateway.sandbox.postgrid import POSTGRID, create_postgrid
from gateway.sandbox.postgrid_account import Account, PostgridSandbox
from tests.gateways import ROOT

CONFIG = """
[sites.shop]
browser_keys = ["pk_shop"]
origins = ["https://shop.example"]
[sources.mail]
kind = "postgrid"
site = "shop"
base_url = "{url}"
api_key = "{key}"
webhook_secrets = ["webhook_secret_0123456789"]
rate_per_second = 1000.0
"""
TEMPLATE = "https://shop.example/?vtid={{contactId}}&mail_ref={{mailReference}}"


@dataclass
class StandIn:
    """A PostGrid in a thread of its own: a command runs an event loop itself."""

    account: Account
    faults: FaultBoard
    url: str
    config: Path


@pytest.fixture
def stand_in(tmp_path: Path) -> Iterator[StandIn]:
    started: Future[tuple[web.Application, str]] = Future()
    loop = asyncio.new_event_loop()
    ended = asyncio.Event()

    async def serve() -> None:
        app = create_postgrid(PostgridSandbox(retry_seconds=()), tmp_path)
        runner = web.AppRunner(app, shutdown_timeout=1.0)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        started.set_result((app, f"http://127.0.0.1:{runner.addresses[0][1]}"))
        await ended.wait()
        await runner.cleanup()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),))
    thread.start()
    app, url = started.result(timeout=10)
    config = tmp_path / "gateway.toml"
    config.write_text(CONFIG.format(url=url, key="test_sk_sandbox"))
    yield StandIn(app[POSTGRID], app[CONTROL].faults, url, config)
    loop.call_soon_threadsafe(ended.set)
    thread.join(timeout=10)
    loop.close()


Run = Callable[..., Result]


@pytest.fixture
def run(stand_in: StandIn) -> Run:
    def ran(*arguments: str, code: int = 0) -> Result:
        command = ["--config", str(stand_in.config), "postgrid", *arguments]
        result = CliRunner().invoke(gateway, command)
        assert result.exit_code == code, result.output
        return result

    return ran


def one(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(result.stdout)
    return found


@pytest.fixture
def letter(run: Run) -> str:
    made = run("orders", "create", "letters", "--to", "c_1", "--from", "c_2", "--html", "<p>",
               "--extra-service", "certified", "--json")  # fmt: skip
    return str(one(made)["id"])


@pytest.fixture
def tracker(run: Run) -> str:
    made = run("trackers", "create", "--redirect-url-template", TEMPLATE,
               "--url-expire-after-days", "90", "--json")  # fmt: skip
    return str(one(made)["id"])


def test_every_call_of_the_table_has_a_command_with_all_its_parameters() -> None:
    for group_name, calls in CALLS.items():
        group = postgrid_command.commands[group_name]
        assert isinstance(group, click.Group)
        for name, call in calls.items():
            command = group.commands[name.replace("_", "-")]
            given = {parameter.name for parameter in command.params}
            assert set(call.params.model_fields) <= given
            assert {"as_json", "config", "source"} <= given
    assert len([call for calls in CALLS.values() for call in calls.values()]) == 19


def test_making_a_tracker_shows_what_goes_into_the_template(run: Run) -> None:
    made = run("trackers", "create", "--redirect-url-template", TEMPLATE,
               "--url-expire-after-days", "90", "--metadata", '{"a": 1}',
               "--description", "Autumn")  # fmt: skip
    tracker_id = made.stdout.split()[1]
    assert f"{{{{{tracker_id}}}}}" in made.stdout
    assert f'<img src="{{{{{tracker_id}.qrcode}}}}">' in made.stdout
    assert "Autumn" in made.stdout
    assert not made.stderr


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("https://shop.example/", ["contact", "mail reference"]),
        ("https://shop.example/?vtid={{contactId}}", ["mail reference"]),
        ("https://shop.example/?ECLUB={{e}}&mail_ref={{m}}", []),
        ("https://shop.example/?xvtid={{a}}&mref={{m}}", ["contact"]),
        ("https://[", ["contact", "mail reference"]),
    ],
)
def test_a_template_without_contact_or_mail_reference_is_warned_of(
    run: Run, template: str, words: list[str]
) -> None:
    assert [
        word for word, line in zip(words, template_warnings(template), strict=True) if word in line
    ] == words
    made = run("trackers", "create", "--redirect-url-template", template,
               "--url-expire-after-days", "30")  # fmt: skip
    assert made.stderr.count("warning: ") == len(words)


def test_trackers_are_listed_shown_changed_and_deleted(run: Run, tracker: str) -> None:
    assert tracker in run("trackers", "list").stdout
    assert TEMPLATE in run("trackers", "get", tracker).stdout
    changed = run("trackers", "update", tracker, "--redirect-url-template", TEMPLATE,
                  "--url-expire-after-days", "365", "--json")  # fmt: skip
    assert one(changed)["urlExpireAfterDays"] == 365
    assert one(run("trackers", "delete", tracker, "--json")) == {
        "id": tracker,
        "object": "tracker",
        "deleted": True,
    }
    assert run("trackers", "list").stdout == "no trackers\n"


def test_visits_are_listed(run: Run, stand_in: StandIn, tracker: str, letter: str) -> None:
    account = stand_in.account
    account.visit(account.trackers[tracker], account.orders[letter], "Mobile", "203.0.113.9")
    shown = run("visits", "list", tracker)
    assert letter in shown.stdout
    assert "Mobile" in shown.stdout
    assert one(run("visits", "list", tracker, "--json"))["orderID"] == letter


def test_orders_are_made_of_json_and_of_files(run: Run, tmp_path: Path) -> None:
    (tmp_path / "back.html").write_text("<p>åäö</p>")
    made = run(
        "orders", "create", "postcards", "--to", '{"firstName": "Kim"}', "--size", "6x4",
        "--front-html", "<p>", "--back-html", f"@{tmp_path}/back.html",
        "--metadata", '{"customerId": "u-1"}', "--merge-variables", '{"mailReference": "m"}',
        "--mailing-class", "first_class", "--idempotency-key", "k", "--fields", "{}", "--json",
    )  # fmt: skip
    order = one(made)
    assert order["to"]["firstName"] == "Kim"
    assert order["backHTML"] == "<p>åäö</p>"
    assert order["metadata"] == {"customerId": "u-1"}
    assert one(run("orders", "get", order["id"], "--kind", "postcards", "--json")) == order
    assert order["id"] in run("orders", "list", "postcards", "--search", '"u-1"').stdout
    assert run("orders", "list", "selfmailers").stdout == "no orders\n"


def test_orders_are_progressed_and_their_way_is_shown(
    run: Run, stand_in: StandIn, letter: str
) -> None:
    run("orders", "progress", letter)
    run("orders", "progress", letter)
    order = stand_in.account.orders[letter]
    stand_in.account.change_order(order, {"imbStatus": "out_for_delivery", "imbZIPCode": "90210"})
    shown = run("orders", "status", letter).stdout
    assert "ready > printing > [processed_for_delivery] > completed" in shown
    assert f"{order['imbDate']}  USPS: out_for_delivery, last seen at ZIP 90210" in shown
    assert order["trackingNumber"] in shown
    assert one(run("orders", "status", letter, "--json")) == order


def test_status_shows_what_it_finds_and_names_what_it_does_not(run: Run, letter: str) -> None:
    result = run("orders", "status", "letter_1", letter, "order_2", code=1)
    assert letter in result.stdout
    assert result.stderr.count("\n") == 1
    assert "no order under letter_1, order_2" in result.stderr
    assert "no order under ../x, \\u001b" in run("orders", "status", "../x", "\x1b", code=1).stderr


def test_a_way_with_a_status_that_nobody_knows_is_shown_and_steers_no_terminal() -> None:
    order = {"id": "letter_1", "status": "lost\x1b[31m", "cancellation": {"note": "no\n"}}
    text = "\n".join(timeline_lines(order))
    assert "[lost\\u001b[31m]" in text
    assert "cancelled, no reason given: no\\u000a" in text


def test_orders_are_cancelled_with_a_note_or_without(run: Run, letter: str) -> None:
    shown = run("orders", "cancel-with-note", letter, "--note", "Wrong address")
    assert "Wrong address" in shown.stdout
    again = run("orders", "cancel", letter, code=1)
    assert again.stderr.count("\n") == 1
    assert "422" in again.stderr


def test_orders_of_a_return_envelope_are_reached_by_it(run: Run) -> None:
    whose = ("--return-envelope", "return_envelope_1")
    made = run("orders", "create", "return_envelope_orders", *whose, "--quantity-ordered", "100")
    order = made.stdout.split()[1]
    assert order in run("orders", "list", "return_envelope_orders", *whose).stdout
    assert "filled" in run("orders", "progress", order, *whose).stdout
    assert "filled" in run("orders", "get", order, *whose).stdout
    assert order in run("orders", "status", order, code=1).stderr


def test_webhooks_are_made_changed_listed_and_deleted(run: Run, letter: str) -> None:
    made = run("webhooks", "create", "--url", "https://shop.example/h",
               "--enabled-events", "letter.created,letter.updated",
               "--enabled-events", "tracker.visited")  # fmt: skip
    assert "letter.created, letter.updated, tracker.visited" in made.stdout
    assert "webhook_secret_" in made.stdout
    webhook = made.stdout.split()[1]
    shown = run("webhooks", "update", webhook, "--no-enabled", "--payload-format", "json").stdout
    assert "webhook_secret_" not in shown
    assert not one(run("webhooks", "get", webhook, "--json"))["enabled"]
    assert webhook in run("webhooks", "list").stdout
    assert run("webhooks", "invocations", webhook).stdout == "no invocations\n"
    assert run("events", "list", "--type", "letter.created,letter.updated").stdout == "no events\n"
    run("webhooks", "delete", webhook, "--yes")
    assert letter


def test_a_page_says_how_to_go_on_and_all_takes_everything(run: Run, stand_in: StandIn) -> None:
    account = stand_in.account
    for n in range(230):
        account.add(account.orders, "letter", {"live": False, "status": "ready", "number": n})
    page = run("orders", "list", "letters", "--limit", "2")
    assert len(page.stdout.splitlines()) == 3
    assert "1 to 2 of 230; go on with --skip 2, or take --all" in page.stderr
    everything = run("orders", "list", "letters", "--all")
    assert len(everything.stdout.splitlines()) == 231
    lines = run("orders", "list", "letters", "--all", "--json").stdout.splitlines()
    assert len({orjson.loads(line)["id"] for line in lines}) == 230
    assert (
        "leave out --limit"
        in run("orders", "list", "letters", "--all", "--limit", "5", code=2).stderr
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("trackers", "get", "a/b"), "id: String should match"),
        (("trackers", "create", "--redirect-url-template", "x"), "--url-expire-after-days"),
        (("orders", "get", "order_1"), "Say it with --kind"),
        (("orders", "list", "letters", "--search", "\udcff"), "--search: is not UTF-8"),
        (("orders", "create", "letters", "--to", "\udcff"), "--to: is not UTF-8"),
        (("events", "list", "--type", "\udcff"), "--type: is not UTF-8"),
        (("orders", "list", "Letters!"), "kind: String should match"),
        (("orders", "list", "return_envelope_orders"), "of one return envelope: say which"),
        (("orders", "get", "return_envelope_order_1"), "of one return envelope: say which"),
        (
            ("orders", "get", "letter_1", "--return-envelope", "return_envelope_1"),
            "letters are not those of a return envelope",
        ),
        (("orders", "create", "letters"), "letters go to somebody: say to whom"),
        (("orders", "create", "cheques", "--to", "c", "--amount", "9" * 30), "--amount: Input"),
        (
            ("trackers", "create", "--redirect-url-template", "", "--url-expire-after-days", "30"),
            "--redirect-url-template: String should have at least 1",
        ),
        (("orders", "list", "letters", "--limit", "1000"), "limit: "),
        (("orders", "create", "letters", "--to", "c", "--metadata", "{"), "is not JSON"),
        (("orders", "create", "letters", "--to", "c", "--html", "@/nowhere"), "No such file"),
        (
            ("webhooks", "create", "--url", "https://x", "--enabled-events", "a", "--secret", "s"),
            "secret",
        ),
        (("--source", "other", "trackers", "list"), 'no source "other"; configured: mail'),
    ],
    ids=str,
)
def test_wrong_usage_is_told_before_anything_is_asked(
    run: Run, arguments: tuple[str, ...], words: str
) -> None:
    assert words in run(*arguments, code=2).stderr


def test_without_a_source_or_with_several_the_command_says_what_to_do(
    tmp_path: Path, stand_in: StandIn
) -> None:
    for text, words in (
        ("", "configured: none"),
        (
            stand_in.config.read_text()
            + CONFIG.split("[sources.mail]")[1].join(["[sources.two]", ""]),
            "configured: mail, two",
        ),
    ):
        path = tmp_path / "other.toml"
        path.write_text(text.format(url=stand_in.url, key="test_sk_sandbox"))
        result = CliRunner().invoke(
            gateway, ["postgrid", "--config", str(path), "trackers", "list"]
        )
        assert result.exit_code == 2
        assert words in result.stderr


@pytest.mark.parametrize(
    ("url", "key", "words"),
    [
        (None, "test_sk_wrong", "is api_key under [sources.mail] right?"),
        ("http://127.0.0.1:1", "test_sk_sandbox", "cannot be reached"),
    ],
)
def test_what_fails_is_one_line_without_traceback_and_key(
    stand_in: StandIn, url: str | None, key: str, words: str
) -> None:
    stand_in.config.write_text(CONFIG.format(url=url or stand_in.url, key=key))
    command = ["--config", str(stand_in.config), "postgrid", "trackers", "list"]
    result = CliRunner().invoke(gateway, command)
    assert result.exit_code == 1
    assert isinstance(result.exception, SystemExit)
    (line,) = result.stderr.splitlines()
    assert words in line
    assert key not in result.output


def switch_on(stand_in: StandIn, fault: dict[str, Any]) -> None:
    stand_in.faults.add(FAULT.validate_python({"path": "/print-mail/*", **fault}))


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "invalid_json"},
        {"kind": "invalid_json", "body": "[]"},
        {"kind": "invalid_json", "body": "[" * 60_000},
        {"kind": "invalid_json", "body": '{"limit":1,"skip":0,"totalCount":1e400,"data":[]}'},
        {"kind": "invalid_json", "body": '{"limit":1,"skip":0,"totalCount":1,"data":[7]}'},
        {"kind": "close_mid_answer"},
        {"kind": "status", "status": 302},
        {"kind": "status", "status": 418, "body": "\x1b]0;owned\x07<html>\n\n"},
        {"kind": "status", "status": 418, "body": '{"error":{"type":"a\\nb","message":"\\u001b"}}'},
        {"kind": "status", "status": 429, "retryAfter": {"seconds": 600}},
    ],
    ids=lambda fault: f"{fault}"[:90],
)
def test_whatever_postgrid_answers_it_is_one_line_that_steers_no_terminal(
    run: Run, stand_in: StandIn, fault: dict[str, Any]
) -> None:
    switch_on(stand_in, fault)
    result = run("trackers", "list", code=1)
    assert isinstance(result.exception, SystemExit)
    assert not result.stdout
    (line,) = result.stderr.splitlines()
    assert line.startswith("Error: ")
    assert line.isprintable()


def test_a_refusal_that_may_pass_is_told_and_tried_again(run: Run, stand_in: StandIn) -> None:
    after = {"seconds": 0}
    switch_on(stand_in, {"kind": "status", "status": 503, "times": 1, "retryAfter": after})
    result = run("trackers", "list")
    assert result.stdout == "no trackers\n"
    assert "503 service_unavailable_error" in result.stderr
    assert "trying again in" in result.stderr


def test_a_long_listing_says_how_far_it_is(run: Run, stand_in: StandIn) -> None:
    account = stand_in.account
    for _ in range(2_100):
        account.add(account.orders, "letter", {"live": False, "status": "ready"})
    result = run("orders", "list", "letters", "--all", "--json")
    assert len(result.stdout.splitlines()) == 2_100
    told = [line.split(" of ") for line in result.stderr.splitlines()]
    assert [total for _, total in told] == ["2100", "2100"]
    assert [int(count) // 1_000 for count, _ in told] == [1, 2]


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_on_a_terminal_progress_is_one_line_that_is_gone_when_rows_come(
    stand_in: StandIn, environment: dict[str, str], form: tuple[str, ...]
) -> None:
    account = stand_in.account
    for _ in range(250):
        account.add(account.orders, "letter", {"live": False, "status": "ready"})
    ours, theirs = pty.openpty()
    command = ("--config", str(stand_in.config), "postgrid", "orders", "list", "letters", "--all")
    process = subprocess.Popen(
        (sys.executable, "-m", "gateway", *command, *form), stdout=theirs, stderr=theirs,
        stdin=subprocess.DEVNULL, env=environment, cwd=ROOT,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # so a terminal tells of its end
        while some := os.read(ours, 65_536):
            shown += some
    os.close(ours)
    assert process.wait() == 0
    assert b"\r100 of 250 " in shown
    lines = [line.rpartition(b"\r\x1b[K")[2] for line in shown.split(b"\r\n")]
    assert not any(b" of 250" in line for line in lines)
    assert len([line for line in lines if b"letter_" in line]) == 250


def test_without_a_key_the_command_says_where_it_belongs(stand_in: StandIn) -> None:
    text = CONFIG.format(url=stand_in.url, key="x")
    stand_in.config.write_text(text.replace('api_key = "x"\n', ""))
    command = ["postgrid", "--config", str(stand_in.config), "trackers", "list"]
    result = CliRunner().invoke(gateway, command)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert "sources.mail.api_key" in line
    assert "is missing; set api_key under [sources.mail]" in line


def test_configuration_and_source_may_stand_at_any_command_of_the_line(stand_in: StandIn) -> None:
    given = ("--config", str(stand_in.config), "--source", "mail")
    for arguments in (
        (*given[:2], "postgrid", *given[2:], "trackers", "list"),
        ("postgrid", *given, "trackers", "list"),
        ("postgrid", "trackers", "list", *given),
    ):
        result = CliRunner().invoke(gateway, arguments)
        assert (result.exit_code, result.stdout) == (0, "no trackers\n"), result.output


def test_no_such_id_is_one_line(run: Run) -> None:
    result = run("trackers", "get", "tracker_1", code=1)
    assert result.stderr.count("\n") == 1
    assert "not_found_error" in result.stderr
