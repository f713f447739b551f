"""The commands that serve until a signal comes: `run`, `demo`, `sandbox`."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import click

from gateway.cli.log import LogFormat, set_up
from gateway.cli.options import FailedError, config_option, configured
from gateway.ports import BufferFailedError
from gateway.wiring import run as process
from gateway.wiring import sandbox
from gateway.wiring.servers import CannotListenError

_log = logging.getLogger("gateway")

Command = TypeVar("Command", bound=Callable[..., Any])

_WORDS = {
    "storefront": "the shop: click, fill a cart, buy",
    "console": "what became of each event",
    "voyado": "what Voyado would hold",
    "dub": "what Dub would hold",
    "postgrid": "what PostGrid would hold: scan a mail piece by following its link",
    "public": "where the shop posts its events",
    "admin": "/metrics, /livez, /readyz",
}


def log_option(command: Command) -> Command:
    """Give a command `--log-format`."""
    return click.option(
        "--log-format",
        type=click.Choice(["text", "json"]),
        default="text",
        show_default=True,
        help="How log lines look (on stderr).",
    )(command)


def port_option(command: Command) -> Command:
    """Give a command `--port-base`, as the argument `ports`."""
    return click.option(
        "--port-base",
        "ports",
        type=click.IntRange(0, 65_529),
        callback=lambda _context, _option, base: sandbox.PortPlan(base),
        help="Take this port and those after it; 0 takes free ones. "
        f"Without it: {', '.join(f'{name} {port}' for name, port in sandbox.PORTS.items())}.",
    )(command)


@click.command("run")
@config_option
@log_option
def run_command(config: Path | None, log_format: LogFormat) -> None:
    """Run all roles in one process: take events in, deliver them, show what became of them."""
    set_up(log_format)
    settings = configured(config, warn=lambda problem: _log.warning("%s", problem))
    _serve(lambda: process.run(settings))


@click.command("ingest")
@config_option
@log_option
def ingest_command(config: Path | None, log_format: LogFormat) -> None:
    """Only take events in: one replica of any number."""
    _serve_role(process.Role.INGEST, config, log_format)


@click.command("deliver")
@config_option
@click.option("--destination", metavar="NAME", help="Only to this one; without it, to all.")
@log_option
def deliver_command(config: Path | None, destination: str | None, log_format: LogFormat) -> None:
    """Only deliver: one replica of as many as there are partitions."""
    _serve_role(process.Role.DELIVER, config, log_format, destination)


@click.command("console")
@config_option
@log_option
def console_command(config: Path | None, log_format: LogFormat) -> None:
    """Only show what became of events, and poll sources: one replica."""
    _serve_role(process.Role.CONSOLE, config, log_format)


def _serve_role(
    role: process.Role, config: Path | None, log_format: LogFormat, destination: str | None = None
) -> None:
    set_up(log_format)
    settings = configured(config, warn=lambda problem: _log.warning("%s", problem))
    if settings.buffer.kind == "sqlite":
        raise click.UsageError(
            f"gateway {role} needs Kafka (buffer.kind): the embedded log belongs to one process,"
            " `gateway run`"
        )
    if destination is not None and destination not in settings.destinations:
        known = ", ".join(settings.destinations) or "none"
        raise click.UsageError(f"no destination is called {destination!r}; there are: {known}")
    _serve(lambda: process.run(settings, frozenset({role}), destination))


@click.command("sandbox")
@port_option
@click.option(
    "--dub-dialect",
    type=click.Choice(["current", "2024"]),
    default="current",
    show_default=True,
    help="Which of Dub's APIs the stand-in has.",
)
@log_option
def sandbox_command(
    ports: sandbox.PortPlan, dub_dialect: Literal["current", "2024"], log_format: LogFormat
) -> None:
    """Run stand-ins of Voyado, Dub and PostGrid on loopback ports."""
    set_up(log_format)
    _serve(lambda: sandbox.run_sandbox(ports, _announce, dub_dialect))


@click.command("demo")
@port_option
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Keep the log here; without it, in a temporary folder that is removed at the end.",
)
@log_option
def demo_command(ports: sandbox.PortPlan, data: Path | None, log_format: LogFormat) -> None:
    """Run everything on this machine: gateway, stand-ins, a storefront. No account is needed."""
    set_up(log_format)
    _serve(lambda: sandbox.run_demo(ports, data, _announce))


def _announce(addresses: Mapping[sandbox.PortName, str]) -> None:
    width = max(map(len, addresses))
    for name, words in _WORDS.items():
        for address in (each for found, each in addresses.items() if found == name):
            click.echo(f"{name:<{width}}  {address}  {words}")
    click.echo("Ctrl-C ends it.")


def _serve(serve: Callable[[], int]) -> NoReturn:
    """Run until the end, and exit. What cannot start is one line on stderr."""
    try:
        status = serve()
    except (CannotListenError, BufferFailedError, OSError) as error:
        raise FailedError(str(error)) from error
    click.get_current_context().exit(status)
