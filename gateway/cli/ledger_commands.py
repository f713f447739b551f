"""`tail`, `trace`, `dead-letters`: clients of the console's API, for people and for programs."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any

import click

from gateway.cli.console_client import ConsoleClient, ConsoleFailedError, WrongQuestionError
from gateway.cli.handling import Handling
from gateway.cli.ledger_text import (
    letter_lines,
    letter_table,
    news_lines,
    pause_lines,
    plain,
    plain_json,
    trace_lines,
)
from gateway.cli.options import config_option, configured
from gateway.http.listen import Address, address_of
from gateway.model.life import LETTER_STATES, OPEN

_WAIT_SECONDS = 20
_AGAIN_SECONDS = 2.0
Json = dict[str, Any]


def _console_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `--config`, `--console`, `--token`, `--json`; failures are exit status 1.

    Where `--console` is not given, the configuration says where the console is, and its token.
    """

    @config_option
    @click.option("--console", metavar="URL", help="The console's address.")
    @click.option("--token", help="The console's token, if it wants one.")
    @click.option("--json", "as_json", is_flag=True, help="JSON, one document a line.")
    @wraps(command)
    def run(
        *, config: Path | None, console: str | None, token: str | None, as_json: bool, **rest: Any
    ) -> None:
        try:
            client = _client(config, console, token)
            command(client, as_json=as_json, **rest)
        except WrongQuestionError as error:
            raise click.UsageError(str(error)) from None
        except ConsoleFailedError as error:
            raise click.ClickException(str(error)) from None

    return run


def _client(config: Path | None, console: str | None, token: str | None) -> ConsoleClient:
    """Return the client; a token kept for the configured console is shown to no other one."""
    if console is not None and (token is not None or config is None):
        return ConsoleClient(console, token)
    settings = configured(config).console
    configured_console = _address(settings.listen)
    if settings.token is not None and console in {None, configured_console}:
        token = token or settings.token.get_secret_value()
    return ConsoleClient(console or configured_console, token)


def _address(listen: str) -> str:
    """Where to reach what listens there; on all addresses means on this machine too."""
    address = address_of(listen)
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - it is not listened on here
    return f"http://{Address(everywhere.get(address.host, address.host), address.port)}"


def _filters(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def add(command: Callable[..., None]) -> Callable[..., None]:
        for name in reversed(names):
            command = click.option(f"--{name}", help=f"Only this {name}.")(command)
        return command

    return add


@click.command()
@_filters("type", "site", "outcome", "destination")
@click.option(
    "--lines",
    "-n",
    type=click.IntRange(0, 500),
    default=10,
    show_default=True,
    help="How many events to begin with.",
)
@click.option("--no-follow", is_flag=True, help="Do not wait for more.")
@_console_options
def tail(
    client: ConsoleClient, *, as_json: bool, lines: int, no_follow: bool, **filters: str | None
) -> None:
    """Show events, and what becomes of them, as they pass."""
    shown: dict[str, set[str]] = {}
    begin = client.get("tail", limit=1)
    cursor = begin["cursor"]
    first = client.get("events", limit=lines, **filters)["events"][::-1] if lines else []
    for event in first:
        _show(event, shown, as_json=as_json)
    if no_follow:
        return
    with suppress(KeyboardInterrupt):  # the way to end it
        for event in _news(client, cursor, filters):
            _show(event, shown, as_json=as_json)


def _news(client: ConsoleClient, cursor: str, filters: dict[str, str | None]) -> Iterator[Json]:
    """Follow until interrupted. A console that restarts is waited for; one word says so."""
    lost = False
    paused: set[str] = set()
    while True:
        try:
            told = client.get("tail", after=cursor, wait=_WAIT_SECONDS, limit=200, **filters)
        except ConsoleFailedError as error:
            if not error.may_pass:
                raise
            if not lost:
                click.echo(f"{error} - Waiting for it.", err=True)
            lost = True
            client.pause(_AGAIN_SECONDS)
            continue
        lost = False
        cursor = told["cursor"]
        for line in pause_lines(told["paused"], paused):
            click.echo(line, err=True)
        yield from told["events"]


def _show(event: Json, shown: dict[str, set[str]], *, as_json: bool) -> None:
    if as_json:
        click.echo(plain_json(event))
        return
    for line in news_lines(event, shown):
        click.echo(line)


@click.command()
@click.argument("value", metavar="ID")
@click.option("--older", is_flag=True, help="Read the logs before the index too.")
@click.option("--before", metavar="TIME", help="Read the logs back from this time on.")
@_console_options
def trace(
    client: ConsoleClient,
    *,
    as_json: bool,
    value: str,
    older: bool,
    before: str | None,
) -> None:
    """Show the whole life of an event, cart, customer, contact, visitor, mail or order.

    ID is any of their ids, or a place in the log (partition-offset).
    """
    told = client.get("trace", id=value, older="1" if older else None, before=before)
    click.echo(plain_json(told) if as_json else "\n".join(trace_lines(told)))
    searched = told["searched"] or {"events": []}
    if not (told["events"] or told["deadLetters"] or searched["events"]):
        raise click.exceptions.Exit(1)


@click.group("dead-letters")
def dead_letters() -> None:
    """Show what was given up on, and what was rejected at ingest."""


def _letter_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command what says which letters."""
    times = {"since": "Buried at this time or later.", "until": "Buried before this time."}
    for name, told in times.items():
        command = click.option(f"--{name}", metavar="TIME", help=told)(command)
    return _filters("destination", "reason", "site", "type")(command)


@dead_letters.command("list")
@_letter_options
@click.option(
    "--state",
    type=click.Choice([*LETTER_STATES, "all"]),
    default=OPEN,
    show_default=True,
    help="Open: neither replayed nor dropped yet.",
)
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=50,
    show_default=True,
    help="At most so many, the newest.",
)
@_console_options
def list_letters(
    client: ConsoleClient, *, as_json: bool, limit: int, state: str, **filters: str | None
) -> None:
    """List dead letters, newest first."""
    asked = None if state == "all" else state
    letters = list(_letters(client, limit + 1, {**filters, "state": asked}))
    shown = letters[:limit]
    for line in map(plain_json, shown) if as_json else letter_table(shown):
        click.echo(line)
    if len(letters) > limit:
        click.echo(f"there are more than these {limit}: see --limit and the filters", err=True)


def _letters(client: ConsoleClient, limit: float, filters: dict[str, str | None]) -> Iterator[Json]:
    cursor: str | None = None
    while limit > 0:
        told = client.get("dead-letters", limit=int(min(limit, 500)), after=cursor, **filters)
        yield from told["deadLetters"]
        limit -= len(told["deadLetters"])
        cursor = told["cursor"]
        if cursor is None:
            return


@dead_letters.command("show")
@click.argument("value", metavar="ID")
@_console_options
def show_letter(client: ConsoleClient, *, as_json: bool, value: str) -> None:
    """Show a dead letter: the event, the request, the answer."""
    letter = client.get("dead-letters", value)
    click.echo(plain_json(letter) if as_json else "\n".join(letter_lines(letter)))


def _selection(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the letters that it is about: named, or all that filters leave."""
    every = click.option("--all", "every", is_flag=True, help="All that are open.")
    return click.argument("ids", metavar="[ID]...", nargs=-1)(_letter_options(every(command)))


@dead_letters.command("replay")
@_selection
@click.option(
    "--rate",
    type=click.FloatRange(0.1, 10_000),
    default=50.0,
    show_default=True,
    help="Letters a second, at most.",
)
@_console_options
def replay_letters(
    client: ConsoleClient,
    *,
    as_json: bool,
    ids: tuple[str, ...],
    every: bool,
    rate: float,
    **filters: str | None,
) -> None:
    """Deliver dead letters again: those with these IDs, or all open ones that the options leave.

    Each goes to the destination that buried it, once, however often it is asked for; what ingest
    had rejected goes through its checks again. Oldest first.
    """
    work = Handling(client, "replay", _selected(client, ids, filters, every=every), rate)
    _finish(work, as_json=as_json)


@dead_letters.command("drop")
@_selection
@click.option("--yes", is_flag=True, help="Do it; without, it is only said how many they are.")
@_console_options
def drop_letters(
    client: ConsoleClient,
    *,
    as_json: bool,
    ids: tuple[str, ...],
    every: bool,
    yes: bool,
    **filters: str | None,
) -> None:
    """Let dead letters be: they are listed and replayed no more. The log keeps them 30 days."""
    selected = _selected(client, ids, filters, every=every)
    if not yes and selected:
        raise click.UsageError(f"this would drop {len(selected)} dead letter(s): add --yes")
    _finish(Handling(client, "drop", selected), as_json=as_json)


def _selected(
    client: ConsoleClient, ids: tuple[str, ...], filters: dict[str, str | None], *, every: bool
) -> list[str]:
    """Return the ids of the letters meant, oldest first."""
    filtered = any(filters.values())
    if bool(ids) + filtered + every != 1:
        raise click.UsageError("say which: IDs, or options such as --destination, or --all")
    if ids:
        return list(ids)
    letters = _letters(client, float("inf"), {**filters, "state": OPEN})
    return [letter["id"] for letter in letters][::-1]


def _finish(work: Handling, *, as_json: bool) -> None:
    """Do it, tell of it, and exit with 1 when it was not done for each."""
    for result in work.run():
        if as_json:
            click.echo(plain_json(result))
        elif result["detail"]:
            click.echo(plain(f"{result['id']}  {result['outcome']}: {result['detail']}"))
    if not as_json:
        click.echo(work.summary())
    if work.undone:
        raise click.exceptions.Exit(1)
