"""The commands that print something: `check`, `config`, `openapi`, `snippet`."""

import re
import sys
from pathlib import Path
from typing import NoReturn

import click
import orjson

from gateway.cli.options import WRONG, FailedError, config_option, configured, line_of, printable
from gateway.http.assets import data_folder
from gateway.http.collector import ADAPTERS, Collector, read_collector
from gateway.http.openapi import document
from gateway.http.snippet import adapter_snippet, snippet
from gateway.ingest import SiteSettings
from gateway.ports import BufferUnavailableError, BufferUnusableError
from gateway.settings.checks import facts
from gateway.settings.load import examine
from gateway.settings.sections import Settings
from gateway.wiring.parts import look_at_buffer

_ADDRESS = re.compile(r"https?://[^\s/?#]+(/[^\s?#]*)?")


@click.command("check")
@config_option
def check_command(config: Path | None) -> None:
    """Tell every problem of a configuration at once, or ok and what follows from it.

    With Kafka that can be reached: its topics' problems too. Nothing is made there.
    """
    examined = examine(config or click.get_current_context().find_root().obj)
    for problem in examined.problems:
        click.echo(line_of(problem), err=True)
    if examined.settings is None:
        _refuse(len(examined.errors))
    told = [*facts(examined.settings), *_buffer_facts(examined.settings)]
    for fact in told:
        click.echo(fact)
    click.echo(f"ok: {examined.file or 'built-in defaults'}")


def _buffer_facts(settings: Settings) -> list[str]:
    """Return what is to be said of Kafka's topics; ends the command where one is refused."""
    try:
        look = look_at_buffer(settings)
    except BufferUnavailableError as error:
        warning = f"warning: buffer: {error}; its topics were not checked"
        click.echo(printable(warning), err=True)
        return []
    except BufferUnusableError as error:
        click.echo(printable(f"buffer: {error}"), err=True)
        _refuse(1)
    if look is None:
        return []
    for wrong in look.wrong:
        click.echo(printable(f"buffer: {wrong}"), err=True)
    if look.wrong:
        _refuse(len(look.wrong))
    if look.missing:
        return [f"topics: the first start makes {', '.join(look.missing)}"]
    return ["topics: they are as they must be"]


def _refuse(count: int) -> NoReturn:
    click.echo(f"{count} problem{'s' if count > 1 else ''}", err=True)
    sys.exit(WRONG)


@click.command("config")
def config_command() -> None:
    """Print the reference configuration: every setting, explained."""
    click.echo((data_folder("config") / "reference.toml").read_text("utf-8"), nl=False)


@click.command("openapi")
def openapi_command() -> None:
    """Print the API's description (OpenAPI 3.1, JSON)."""
    click.echo(orjson.dumps(orjson.loads(document()), option=orjson.OPT_INDENT_2).decode())


@click.command("snippet")
@config_option
@click.option("--site", metavar="NAME", help="Which site; not needed where there is one.")
@click.option(
    "--gateway",
    "gateway_url",
    metavar="URL",
    help="The gateway's public address, on the shop's own domain: https://g.shop.example",
)
@click.option(
    "--adapter",
    "adapters",
    type=click.Choice(list(ADAPTERS)),
    multiple=True,
    help="Also the tag that takes the calls which the shop makes already. May be repeated.",
)
@click.option(
    "--integrity/--no-integrity",
    default=True,
    show_default=True,
    help="Bind the tag to this version's script; then paste it anew after each upgrade.",
)
def snippet_command(
    config: Path | None,
    site: str | None,
    gateway_url: str | None,
    adapters: tuple[str, ...],
    integrity: bool,  # noqa: FBT001 - click calls it
) -> None:
    """Print the tag to paste into the shop's pages."""
    settings = configured(config)
    shop = _site(settings, site)
    dist = data_folder("static") / "dist"
    collector = _script(dist, "collector.js", integrity=integrity)
    url = gateway_url or f"http://{settings.http.listen}"
    if not _ADDRESS.fullmatch(url):
        raise click.UsageError(f"--gateway is {url}: write https://g.shop.example")
    click.echo(snippet(url, shop.browser_keys[0], collector))
    for name in adapters:
        adapter = _script(dist, ADAPTERS[name], integrity=integrity)
        click.echo(adapter_snippet(url, name, adapter, shop.currency))


def _script(dist: Path, name: str, *, integrity: bool) -> Collector | None:
    """Return what the tag is bound to: nothing, if it is not to be."""
    if not integrity:
        return None
    script = read_collector(dist, name)
    if script is None:
        raise FailedError(f"{name} is not built: run npm run build in static/")
    return script


def _site(settings: Settings, name: str | None) -> SiteSettings:
    known = ", ".join(settings.sites) or "none"
    if name is None:
        if len(settings.sites) != 1:
            raise click.UsageError(f"say which site, with --site; configured: {known}")
        name = next(iter(settings.sites))
    if name not in settings.sites:
        raise click.UsageError(f'there is no site "{name}"; configured: {known}')
    if not settings.sites[name].browser_keys:
        raise click.UsageError(f'site "{name}" has no browser key: set browser_keys')
    return settings.sites[name]
