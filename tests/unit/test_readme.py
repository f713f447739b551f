"""The README tells of everything that its readers will meet by name."""

from pathlib import Path

import pytest

from gateway.cli.main import gateway
from gateway.model.outcome import Outcome, Reason

README = (Path(__file__).parent.parent.parent / "README.md").read_text("utf-8")


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_has_its_line(outcome: Outcome) -> None:
    assert f"\n| {outcome} | " in README


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_is_named(reason: Reason) -> None:
    assert f"`{reason}`" in README


@pytest.mark.parametrize("command", gateway.commands)
def test_every_command_is_named(command: str) -> None:
    assert f"`gateway {command}" in README or f", `{command}`" in README
