"""How log lines look, and how often they come."""

import asyncio
import logging
from typing import Literal

import pytest

from gateway.cli.log import set_up


@pytest.fixture(autouse=True)
def _the_root_logger_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    monkeypatch.setattr(logging.getLogger(), "level", logging.WARNING)


def test_trouble_that_goes_on_is_said_once_in_a_while(capsys: pytest.CaptureFixture[str]) -> None:
    set_up("text")
    log = logging.getLogger("gateway.deliver")
    for number in range(3):
        log.warning("%s: away", f"try {number}", extra={"seldom": True})
        log.warning("%s: refused", f"event {number}")
    said = [line.split(" ", 1)[1] for line in capsys.readouterr().err.splitlines()]
    assert said == [
        "warning: try 0: away",
        *(f"warning: event {number}: refused" for number in range(3)),
    ]


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_what_a_destination_said_makes_no_lines_and_steers_no_terminal(
    capsys: pytest.CaptureFixture[str], log_format: Literal["text", "json"]
) -> None:
    set_up(log_format)
    hostile = "no\n10:15:00 all is well\x1b[2J\x9b\u202e"
    logging.getLogger("gateway.deliver").warning("dub: lead is paused: %s", hostile)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said[:-1].isprintable()
    assert "dub: lead is paused: no" in said


@pytest.mark.logs_errors("a fault")
def test_a_request_that_ends_while_it_is_given_up_is_no_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    set_up("text")
    log = logging.getLogger("aiohttp.server")
    for error in (asyncio.InvalidStateError("invalid state"), ValueError("a fault")):
        log.error("Unhandled exception", exc_info=error)
    said = capsys.readouterr().err
    assert said.count("Unhandled exception") == 1
    assert "a fault" in said
