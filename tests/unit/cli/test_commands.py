"""The commands as a person at a terminal sees them: output, one line of error, exit status."""

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from gateway import __version__
from gateway.cli.log import set_up
from gateway.cli.main import gateway
from gateway.http.assets import data_folder
from tests.gateways import free_port

MINIMAL = data_folder("config") / "minimal.toml"
BROKEN = '[http]\nlistn = "x"\n[dedup]\nwindow_seconds = -1\n'


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    path = tmp_path / "broken.toml"
    path.write_text(BROKEN)
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(gateway, [str(each) for each in arguments])


def shell(*arguments: str | Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "gateway", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
        env=environment,
    )


def test_check_says_ok_and_what_follows() -> None:
    result = run("check", "--config", MINIMAL)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == f"ok: {MINIMAL}"
    assert "window memory" in result.stdout
    assert not result.stderr


def test_check_prints_every_problem_on_a_line_of_its_own(broken: Path) -> None:
    result = run("check", "--config", broken)
    assert result.exit_code == 2
    first, second, count = result.stderr.splitlines()
    assert first.startswith(f"http.listn ({broken}:2): ")
    assert second.startswith(f"dedup.window_seconds ({broken}:4): ")
    assert count == "2 problems"


def test_check_shows_a_warning_and_says_ok(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text('[destinations.a]\nkind = "file"\npath = "a"\n')
    result = run("check", "--config", path)
    assert result.exit_code == 0
    assert result.stderr.startswith("warning: destinations.a")


def test_check_says_that_it_could_not_ask_kafka(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(f'[buffer]\nkind = "kafka"\nservers = ["127.0.0.1:{free_port()}"]\n')
    result = run("check", "--config", path)
    assert result.exit_code == 0
    (warning,) = result.stderr.splitlines()
    assert warning.startswith("warning: buffer: Kafka at 127.0.0.1:")
    assert warning.endswith("its topics were not checked")
    assert result.stdout.endswith(f"ok: {path}\n")


def test_control_characters_of_a_configuration_reach_no_terminal(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text('["a\\u001b[31m\\nb"]\n')
    result = run("check", "--config", path)
    assert result.exit_code == 2
    assert "\x1b" not in result.stderr
    assert len(result.stderr.splitlines()) == 2


def test_the_configuration_can_be_named_before_the_command_too() -> None:
    assert run("--config", MINIMAL, "check").stdout.endswith(f"ok: {MINIMAL}\n")


def test_config_prints_the_reference() -> None:
    assert run("config").stdout == (data_folder("config") / "reference.toml").read_text("utf-8")


def test_openapi_prints_the_document() -> None:
    document = orjson.loads(run("openapi").stdout)
    assert document["openapi"].startswith("3.1")
    assert "/v1/events" in document["paths"]


def test_snippet_prints_the_tag_with_the_hash_of_the_script_as_built() -> None:
    built = orjson.loads((data_folder("static") / "dist" / "collector.json").read_bytes())
    about = built["collector.js"]
    result = run("snippet", "--config", MINIMAL, "--gateway", "https://g.shop.example")
    assert result.exit_code == 0
    assert f'src="https://g.shop.example/collector.{about["hash"]}.js"' in result.stdout
    assert f'integrity="{about["integrity"]}"' in result.stdout
    assert 'data-key="pk_shop"' in result.stdout


def test_snippet_prints_the_tags_of_the_adapters_that_are_asked_for() -> None:
    result = run("snippet", "--config", MINIMAL, "--adapter", "datalayer", "--adapter", "dub")
    assert result.exit_code == 0
    collector, datalayer, dub = re.findall(
        r'src="http://[^"/]*/([a-z/]+)\.[0-9a-f]{12}\.js"', result.stdout
    )
    assert (collector, datalayer, dub) == ("collector", "adapters/datalayer", "adapters/dub")
    assert 'data-currency="SEK"' in result.stdout
    assert result.stdout.count("integrity=") == 3


def test_snippet_without_integrity_names_what_stays_at_its_address() -> None:
    result = run("snippet", "--config", MINIMAL, "--no-integrity", "--adapter", "voyado")
    assert "/collector.js" in result.stdout
    assert "/adapters/voyado.js" in result.stdout
    assert "integrity" not in result.stdout


@pytest.mark.parametrize("address", ["g.shop.example", "ftp://x", "https://", "https://x/?a=1"])
def test_snippet_of_what_is_no_address_is_wrong_usage(address: str) -> None:
    result = run("snippet", "--config", MINIMAL, "--gateway", address)
    assert result.exit_code == 2
    assert "write https://g.shop.example" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--config", MINIMAL, "--site", "none"), 'no site "none"; configured: shop'),
        (("--config", os.devnull), "say which site"),
    ],
)
def test_snippet_of_a_site_that_is_not_there_is_wrong_usage(
    arguments: tuple[str | Path, ...], words: str
) -> None:
    result = run("snippet", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr


def test_commands_of_the_console_find_it_in_the_configuration(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text('[console]\nlisten = "0.0.0.0:1"\ntoken = "0123456789abcdef"\n')
    result = run("trace", "e1", "--config", path)
    assert result.exit_code == 1
    assert "127.0.0.1:1" in result.stderr


def test_version(environment: dict[str, str]) -> None:
    done = shell("--version", environment=environment)
    assert (done.returncode, done.stdout) == (0, f"gateway {__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("chek",), "Did you mean 'check'?"),
        (("run", "--confg", "x"), "No such option"),
        (("run", "--config", "absent.toml"), "No such file"),
        (("demo", "--port-base", "70000"), "70000"),
        pytest.param(("trace", "\udcff"), "not UTF-8", id="half a character"),
    ],
)
def test_wrong_usage_is_one_line_and_status_2(
    arguments: tuple[str, ...], words: str, environment: dict[str, str]
) -> None:
    done = shell(*arguments, environment=environment)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("gateway: ")
    assert words in done.stderr


def test_a_wrong_configuration_does_not_start(broken: Path, environment: dict[str, str]) -> None:
    done = shell("run", "--config", broken, environment=environment)
    assert done.returncode == 2
    assert [line.split(" ")[1] for line in done.stderr.splitlines()] == [
        "http.listn",
        "dedup.window_seconds",
    ]


def test_without_a_command_the_commands_are_listed(environment: dict[str, str]) -> None:
    done = shell(environment=environment)
    text = done.stdout + done.stderr
    names = ("run", "demo", "check", "snippet", "sandbox", "tail", "trace", "dead-letters")
    assert all(f"  {name} " in text for name in names)
    assert "Traceback" not in text


@pytest.fixture
def _logging_as_before() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("gateway")
    before = list(root.handlers), root.level, own.level
    yield
    root.handlers[:], root.level, own.level = before[0], before[1], before[2]


@pytest.mark.usefixtures("_logging_as_before")
def test_json_log_lines_are_one_object_each(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("json")
    logging.getLogger("gateway.x").info("two\nlines %s", "é")
    logging.getLogger("aiohttp.access").info("never shown")
    (line,) = capsys.readouterr().err.splitlines()
    found = orjson.loads(line)
    assert found["message"] == "two\nlines é"
    assert (found["level"], found["logger"]) == ("info", "gateway.x")
    assert found["time"].endswith("+00:00")


@pytest.mark.usefixtures("_logging_as_before")
def test_text_log_lines_show_the_level_from_warnings_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_up("text")
    logging.getLogger("gateway").info("plain")
    logging.getLogger("gateway").warning("mind this")
    plain, warned = capsys.readouterr().err.splitlines()
    assert plain[9:] == "plain"
    assert warned[9:] == "warning: mind this"


@pytest.mark.usefixtures("_logging_as_before")
def test_what_came_from_outside_begins_no_line_of_its_own_in_the_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_up("text")
    logging.getLogger("gateway").warning("order %s: left out", "a\n10:15:00 stopped\x1b[2J")
    (line,) = capsys.readouterr().err.splitlines()
    assert line[9:] == "warning: order a\\u000a10:15:00 stopped\\u001b[2J: left out"
