"""`gateway postgrid …`: a command for every call of the client's table, and `orders status`."""

import asyncio
import sys
import types
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, cast, get_args, get_origin

import click
import orjson
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from gateway.cli.ledger_text import plain, plain_json
from gateway.cli.options import FailedError, configured
from gateway.cli.postgrid_text import (
    cells,
    listing_lines,
    merge_lines,
    table_of,
    template_warnings,
    thing_lines,
    timeline_lines,
)
from gateway.wiring import postgrid
from gateway.wiring.postgrid import (
    CALLS,
    Answer,
    AnyCall,
    AnyListing,
    KeyRefusedError,
    Listing,
    NoSuchThingError,
    Page,
    Paged,
    Params,
    PostGridError,
    PostgridSettings,
    Thing,
)

Json = dict[str, Any]
Result = TypeVar("Result")

_PLAIN_EVERY = 1_000
"""Rows from one line of progress to the next, where there is no terminal."""
_GROUP_HELP = {
    "trackers": "Mail trackers: where their links lead, and how often they were followed.",
    "visits": "Visits: who followed a tracker's link, by mail piece.",
    "orders": "Mail pieces: letters, postcards, cheques, self-mailers and others.",
    "webhooks": "Webhooks, and what was delivered to them.",
    "events": "What happened, as webhooks were told.",
}


class _Source:
    """The configured source that a command asks."""

    def __init__(self, name: str, settings: PostgridSettings) -> None:
        self.name = name
        self.settings = settings

    def run(self, work: Awaitable[Result]) -> Result:
        """Run until it is done. Raises FailedError, with one line."""
        try:
            return asyncio.run(_awaited(work))
        except KeyRefusedError as error:
            raise FailedError(
                f"{plain(error)} (is api_key under [sources.{self.name}] right?)"
            ) from None
        except NoSuchThingError as error:
            raise FailedError(f"{plain(error)} (a key sees only its own mode)") from None
        except PostGridError as error:
            raise FailedError(plain(error)) from None

    @staticmethod
    def waiting(seconds: float, why: str) -> None:
        """Say that it is tried again."""
        click.echo(f"{plain(why).rstrip('.')}; trying again in {seconds:.0f} s", err=True)


async def _awaited(work: Awaitable[Result]) -> Result:
    return await work


def _keep(context: click.Context, option: click.Parameter, value: object) -> None:
    """Keep what was given, at whichever command of the line it stands."""
    if value is not None:
        context.meta[f"{__name__}.{option.name}"] = value


def _common() -> list[click.Parameter]:
    """Return the options that say which account is asked; every command takes them."""
    return [
        click.Option(
            ["--config"],
            type=click.Path(path_type=Path, dir_okay=False),
            metavar="FILE",
            help="The TOML file.",
            expose_value=False,
            callback=_keep,
        ),
        click.Option(
            ["--source"],
            metavar="NAME",
            help="Which of [sources.NAME]; not needed for one.",
            expose_value=False,
            callback=_keep,
        ),
    ]


postgrid_command = click.Group(
    "postgrid",
    params=_common(),
    help="Ask PostGrid: every call of its API, by the key of a configured source.",
)


def _source(context: click.Context) -> _Source:
    sources = configured(context.meta.get(f"{__name__}.config")).sources
    name = context.meta.get(f"{__name__}.source")
    known = ", ".join(sources) or "none"
    if name is None:
        if len(sources) != 1:
            raise click.UsageError(f"say which source, with --source NAME; configured: {known}")
        name = next(iter(sources))
    if name not in sources:
        raise click.UsageError(f'there is no source "{name}"; configured: {known}')
    return _Source(name, sources[name])


# Commands from the table


def _command(call: AnyCall) -> click.Command:
    """Make a call's command: its parameters are arguments and options."""
    fields = call.params.model_fields
    parameters = [_parameter(name, field, fields) for name, field in fields.items()]
    parameters += _common()
    parameters.append(_json_option())
    if isinstance(call, Listing):
        every = click.Option(
            ["--all", "everything"], is_flag=True, help="Every row, however many pages."
        )
        parameters.append(every)
    if call.method == "DELETE" and call.group != "orders":
        parameters.append(click.Option(["--yes"], is_flag=True, help="Do not ask."))
    return click.Command(
        call.name.replace("_", "-"),
        params=parameters,
        callback=click.pass_context(partial(_run, call)),
        help=f"{call.summary}\n\n{call.method} /print-mail/v1{call.path}",
    )


def _parameter(name: str, field: FieldInfo, fields: dict[str, FieldInfo]) -> click.Parameter:
    if _is_argument(name, fields):
        return click.Argument([name], metavar=name.upper())
    option = _option(name)
    kind = _plain_type(field.annotation)
    help_text = field.description or ""
    if name == "kind":
        return click.Option([option, name], help=f"{help_text} Without it by the id's prefix.")
    if kind is bool:
        switch = f"{option}/--no-{option.removeprefix('--')}"
        return click.Option([switch, name], default=None, help=help_text)
    if get_origin(kind) is Literal:
        choice = click.Choice([str(each) for each in get_args(kind)])
        return click.Option(
            [option, name], type=choice, required=field.is_required(), help=help_text
        )
    several = get_origin(kind) is tuple
    return click.Option(
        [option, name],
        type=int if kind is int else str,
        multiple=several,
        required=field.is_required(),
        help=f"{help_text} Several: again, or with commas." if several else help_text,
    )


def _is_argument(name: str, fields: dict[str, FieldInfo]) -> bool:
    return name == "id" or (name == "kind" and "id" not in fields)


def _option(name: str) -> str:
    return f"--{name.removesuffix('_').replace('_', '-')}"


def _plain_type(annotation: Any) -> Any:
    """Return the type without `Annotated`, and without `None` beside it."""
    if get_origin(annotation) is Annotated:
        return _plain_type(get_args(annotation)[0])
    if get_origin(annotation) in {types.UnionType, Union}:
        rest = [each for each in get_args(annotation) if each is not type(None)]
        return _plain_type(rest[0]) if len(rest) == 1 else annotation
    return annotation


def _run(
    call: AnyCall,
    context: click.Context,
    /,
    *,
    as_json: bool,
    everything: bool = False,
    yes: bool = False,
    **given: Any,
) -> None:
    params = _params(call, given)
    source = _source(context)
    if call.method == "DELETE" and call.group != "orders" and not yes and sys.stdin.isatty():
        click.confirm(f"Delete {given['id']} for good?", abort=True, err=True)
    if everything:
        _show_everything(source, cast("AnyListing", call), params, as_json=as_json)
        return
    work = postgrid.carry_out(source.settings, call, params, source.waiting)
    _show(call, source.run(work), as_json=as_json)


def _params(call: AnyCall, given: Json) -> Params:
    """Check what was given before anything is asked. Raises UsageError."""
    values = {
        name: _value(name, value, call.params.model_fields[name])
        for name, value in given.items()
        if value not in {None, ()}
    }
    if "kind" in call.params.model_fields and "kind" not in values:
        kind = postgrid.kind_of(values["id"])
        if kind is None:
            raise click.UsageError(f"of which kind is {plain(values['id'])}? Say it with --kind")
        values["kind"] = kind
    try:
        params: Params = call.params.model_validate(values)
    except ValidationError as error:
        raise click.UsageError(_first_issue(error, call.params.model_fields)) from None
    return params


def _first_issue(error: ValidationError, fields: dict[str, FieldInfo]) -> str:
    """Say what is wrong, and which option says so if it is one."""
    issue = error.errors(include_url=False, include_input=False)[0]
    message = issue["msg"].removeprefix("Value error, ")
    if not issue["loc"]:
        return message
    name = str(issue["loc"][0])
    return f"{name if _is_argument(name, fields) else _option(name)}: {message}"


def _value(name: str, value: Any, field: FieldInfo) -> Any:
    kind = _plain_type(field.annotation)
    texts = value if isinstance(value, tuple) else (value,)
    if any("\ud800" <= sign <= "\udfff" for text in texts for sign in str(text)):
        # So a terminal's bytes come that are no text.
        raise click.UsageError(f"{_option(name)}: is not UTF-8")
    if isinstance(value, tuple):
        return tuple(part.strip() for each in value for part in each.split(",") if part.strip())
    if get_origin(kind) is Literal:
        return next(each for each in get_args(kind) if str(each) == value)
    if not isinstance(value, str):
        return value
    text = _from_file(name, value)
    if kind is str or name == "search" or (kind != Json and not text.lstrip().startswith("{")):
        return text
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise click.UsageError(f"{_option(name)}: is not JSON: {error}") from None


def _from_file(name: str, text: str) -> str:
    """Return what a file holds, where `@file` is given."""
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text("utf-8")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise click.UsageError(f"{_option(name)}: {plain(text[1:])}: {why}") from None


# What is shown


def _show(call: AnyCall, answer: Answer, *, as_json: bool) -> None:
    if isinstance(answer, Page):
        _show_page(_listed(call), answer, as_json=as_json)
        return
    told = answer.wire()
    if as_json:
        click.echo(plain_json(told))
    else:
        _echo(thing_lines(told if call.name == "create" else {**told, "secret": None}))
    if call.group == "trackers" and "redirectURLTemplate" in told:
        if not as_json:
            _echo(merge_lines(told["id"]))
        for warning in template_warnings(told["redirectURLTemplate"]):
            click.echo(f"warning: {warning}", err=True)


def _listed(call: AnyCall) -> str:
    """Return what a listing lists: what its table is called."""
    return call.group if call.name == "list" else call.name


def _show_page(name: str, page: Page[Thing], *, as_json: bool) -> None:
    rows = [row.wire() for row in page.data]
    if as_json:
        _echo(map(plain_json, rows))
        return
    _echo(listing_lines(name, rows))
    if page.total_count > page.skip + len(rows):
        first, last = page.skip + 1, page.skip + len(rows)
        click.echo(
            f"{first} to {last} of {page.total_count}; go on with --skip {last}, or take --all",
            err=True,
        )


def _show_everything(
    source: _Source, listing: AnyListing, params: Params, *, as_json: bool
) -> None:
    if not isinstance(params, Paged) or params.limit or params.skip:
        raise click.UsageError("--all takes every row: leave out --limit and --skip")
    progress = _Progress()
    rows = postgrid.each_row(source.settings, listing, params, progress.told, source.waiting)
    name = _listed(listing)
    source.run(_print_json(rows, progress) if as_json else _print_table(name, rows, progress))
    progress.done()


async def _print_json(rows: AsyncIterator[Thing], progress: "_Progress") -> None:
    async for row in rows:
        progress.make_room()
        click.echo(plain_json(row.wire()))


async def _print_table(name: str, rows: AsyncIterator[Thing], progress: "_Progress") -> None:
    """Print a table, for which all rows must be known; only what it shows of them is kept."""
    shown: list[Sequence[str]] = [cells(name, row.wire()) async for row in rows]
    progress.make_room()
    _echo(table_of(name, shown))


def _echo(lines: Iterator[str]) -> None:
    for line in lines:
        click.echo(line)


class _Progress:
    """How far a long listing is: one line that changes on a terminal, a line now and then else."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._said = 0

    def told(self, count: int, total: int) -> None:
        """Say it, where it takes more than a page."""
        if self._terminal:
            if total > count:
                click.echo(f"\r{count} of {total} ", err=True, nl=False)
                self._said = count
        elif count - self._said >= _PLAIN_EVERY:
            click.echo(f"{count} of {total}", err=True)
            self._said = count

    def make_room(self) -> None:
        """Take the line away where rows go to the same terminal."""
        if sys.stdout.isatty():
            self.done()

    def done(self) -> None:
        """End the line."""
        if self._terminal and self._said:
            click.echo("\r\033[K", err=True, nl=False)
            self._said = 0


def _status(context: click.Context, ids: tuple[str, ...], *, as_json: bool) -> None:
    """Show where mail pieces are."""
    source = _source(context)
    missing: list[str] = []

    async def show() -> None:
        orders = postgrid.find_orders(source.settings, ids, source.waiting)
        async for order_id, found in orders:
            if isinstance(found, NoSuchThingError):
                missing.append(order_id)
            elif as_json:
                click.echo(plain_json(found.wire()))
            else:
                _echo(timeline_lines(found.wire()))

    source.run(show())
    if missing:
        named = ", ".join(plain(each) for each in missing)
        raise FailedError(f"no order under {named} (a key sees only its own mode)")


def _status_command() -> click.Command:
    return click.Command(
        "status",
        params=[
            click.Argument(["ids"], metavar="ID…", nargs=-1, required=True),
            *_common(),
            _json_option(),
        ],
        callback=click.pass_context(_status),
        help="Show where mail pieces are: status, USPS's own reports, tracking number.",
    )


def _json_option() -> click.Option:
    return click.Option(["--json", "as_json"], is_flag=True, help="JSON, one document a line.")


def _groups() -> Iterator[click.Group]:
    for name, calls in CALLS.items():
        group = click.Group(name, help=_GROUP_HELP[name])
        for call in calls.values():
            group.add_command(_command(call))
        yield group


def _add_all(add: Callable[[click.Command], None]) -> None:
    for group in _groups():
        if group.name == "orders":
            group.add_command(_status_command())
        add(group)


_add_all(postgrid_command.add_command)
