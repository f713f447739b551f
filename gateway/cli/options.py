"""What commands share: the configuration they are given, and how they fail."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from gateway.settings.load import load
from gateway.settings.problems import ConfigurationError, Problem
from gateway.settings.sections import Settings

Command = TypeVar("Command", bound=Callable[..., Any])

WRONG = 2
"""The exit status of wrong usage or configuration."""
FAILED = 1


class FailedError(click.ClickException):
    """A command that cannot do what it should: one line, and exit status 1."""

    exit_code = FAILED


class WrongConfigurationError(click.ClickException):
    """A configuration that cannot be used: a line for each problem, and exit status 2."""

    exit_code = WRONG

    def __init__(self, error: ConfigurationError) -> None:
        super().__init__("\n".join(line_of(problem) for problem in error.problems))


def line_of(problem: Problem) -> str:
    """Return a problem on one line."""
    text = printable(str(problem))
    return f"warning: {text}" if problem.severity == "warning" else text


def printable(text: str) -> str:
    """Return a text on one line, whatever it quotes."""
    return "".join(each if each.isprintable() else " " for each in text)


def config_option(command: Command) -> Command:
    """Give a command `--config`, as the argument `config`."""
    return click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        metavar="FILE",
        help="The TOML file; without it config/gateway.toml if there, else built-in defaults.",
    )(command)


def configured(config: Path | None, warn: Callable[[Problem], None] | None = None) -> Settings:
    """Load the settings; `warn` is told of each warning. Raises WrongConfigurationError."""
    context = click.get_current_context(silent=True)
    outer = context.find_root().obj if context else None
    try:
        return load(config or outer, warn=warn)
    except ConfigurationError as error:
        raise WrongConfigurationError(error) from error
