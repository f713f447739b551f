"""The command `gateway`."""

import os
import sys
from pathlib import Path

import click

from gateway import __version__
from gateway.cli.ledger_commands import dead_letters, tail, trace
from gateway.cli.options import FAILED, WRONG, config_option
from gateway.cli.postgrid_commands import postgrid_command
from gateway.cli.serve import (
    console_command,
    deliver_command,
    demo_command,
    ingest_command,
    run_command,
    sandbox_command,
)
from gateway.cli.show import check_command, config_command, openapi_command, snippet_command

INTERRUPTED = 130
"""What shells call a program that Ctrl-C ended."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="gateway %(version)s")
@config_option
@click.pass_context
def gateway(context: click.Context, config: Path | None) -> None:
    """Take a storefront's events in on the shop's own domain, and deliver each of them once."""
    context.obj = config


for _command in (
    demo_command,
    sandbox_command,
    run_command,
    ingest_command,
    deliver_command,
    console_command,
    check_command,
    tail,
    trace,
    dead_letters,
    postgrid_command,
    snippet_command,
    openapi_command,
    config_command,
):
    gateway.add_command(_command)


def main() -> None:
    """Run the command line, and exit: 0 done, 1 failed, 2 wrong usage or configuration."""
    if not all(map(_is_text, sys.argv[1:])):
        click.echo("gateway: an argument is not UTF-8 text", err=True)
        sys.exit(WRONG)
    try:
        status = gateway.main(standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        sys.exit(error.exit_code)
    except click.UsageError as error:
        click.echo(f"gateway: {error.format_message()} {_hint(error)}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        for line in error.format_message().splitlines():
            click.echo(f"gateway: {line}", err=True)
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    sys.exit(status if isinstance(status, int) else 0)


def _is_text(argument: str) -> bool:
    """Whether its bytes were UTF-8: others come as half characters, which nothing can write."""
    return not any("\ud800" <= each <= "\udfff" for each in argument)


def _hint(error: click.UsageError) -> str:
    path = error.ctx.command_path if error.ctx else "gateway"
    return f"(see {path} --help)"
