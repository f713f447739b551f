"""The stand-ins, and the demo: everything on one machine, with no account anywhere."""

import logging
import socket
import tempfile
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from aiohttp import web

from gateway.http.assets import data_folder
from gateway.http.collector import read_collector
from gateway.http.snippet import snippet
from gateway.sandbox.dub import create_dub
from gateway.sandbox.dub_workspace import DubDialect, DubSandbox
from gateway.sandbox.postgrid import create_postgrid
from gateway.sandbox.postgrid_account import PostgridSandbox
from gateway.sandbox.storefront import StorefrontSandbox, create_storefront
from gateway.sandbox.voyado import VoyadoSandbox, create_voyado
from gateway.settings.sections import Settings
from gateway.wiring.parts import build
from gateway.wiring.run import Process, Sockets, run_loop, side_server
from gateway.wiring.servers import Server, bind, url
from gateway.wiring.stop import Stop

_log = logging.getLogger("gateway")

PortName = Literal["public", "admin", "console", "storefront", "voyado", "dub", "postgrid"]
PORTS: Mapping[PortName, int] = {
    "public": 8080,
    "admin": 9090,
    "console": 8090,
    "storefront": 8081,
    "voyado": 8071,
    "dub": 8072,
    "postgrid": 8073,
}
"""Where the demo listens, all on loopback, unless it is told a base."""
DEMO_KEY = "pk_demo"
DEMO_SOURCE = "mail"
DEMO_WEBHOOK_SECRET = "webhook_secret_of_the_demo"  # noqa: S105 - of the stand-in
WEBHOOK_RETRY_SECONDS = (5.0, 10.0, 20.0)
"""PostGrid's own are an hour, two and four: too long to watch."""
DEMO_LANGUAGES = {"sv": "sv-SE", "en": "en-GB"}
Announce = Callable[[Mapping[PortName, str]], None]
"""Told each address once everything is listened on."""


@dataclass(slots=True, frozen=True)
class PortPlan:
    """Which ports to take: the usual ones, or `base` and the six after it; base 0: free ones."""

    base: int | None = None

    def of(self, name: PortName) -> int:
        """Return the port for what goes by that name; 0 for any."""
        if self.base is None:
            return PORTS[name]
        return self.base + get_args(PortName).index(name) if self.base else 0

    def take(self, *names: PortName) -> dict[PortName, socket.socket]:
        """Take ports. Raises CannotListenError, with those taken before closed again."""
        taken: dict[PortName, socket.socket] = {}
        try:
            for name in names:
                taken[name] = bind(f"127.0.0.1:{self.of(name)}", "--port-base")
        except BaseException:
            for each in taken.values():
                each.close()
            raise
        return taken


def run_sandbox(ports: PortPlan, announce: Announce, dialect: DubDialect = "current") -> int:
    """Run the stand-ins of Voyado, Dub and PostGrid until a signal. Raises CannotListenError."""
    taken = ports.take("voyado", "dub", "postgrid")
    servers = _stand_ins(taken, "http://127.0.0.1:8081", dialect=dialect)

    async def serve(stop: Stop) -> int:
        for server in servers:
            await server.start()
        announce({name: url(each) for name, each in taken.items()})
        await stop.asked()
        for server in servers:
            await server.stop()
        return 0

    return run_loop(serve)


def run_demo(ports: PortPlan, folder: Path | None, announce: Announce) -> int:
    """Run a gateway with stand-ins and a storefront until a signal; return the exit status.

    The log is kept in `folder`; without one, in a temporary folder that is removed at the end.
    Raises CannotListenError, BufferUnavailableError.
    """
    holder = nullcontext(str(folder)) if folder else tempfile.TemporaryDirectory("-gateway-demo")
    with holder as name:
        taken = ports.take(*get_args(PortName))
        addresses = {name: url(each) for name, each in taken.items()}
        process = Process(
            build(demo_settings(addresses, Path(name))),
            sockets=Sockets(taken["public"], taken["admin"], taken["console"]),
            beside=[
                *_stand_ins(
                    taken,
                    addresses["storefront"],
                    f"{addresses['public']}/v1/hooks/postgrid/{DEMO_SOURCE}",
                ),
                _storefront(taken, addresses),
            ],
        )

        async def serve(stop: Stop) -> int:
            announce(addresses)
            return await process.run(stop)

        return run_loop(serve)


def demo_settings(addresses: Mapping[PortName, str], folder: Path) -> Settings:
    """Return the demo's configuration: one site, to Voyado, Dub and a file, and its direct mail."""
    storefront = addresses["storefront"]
    listen = {name: each.removeprefix("http://") for name, each in addresses.items()}
    return Settings.model_validate(
        {
            "http": {"listen": listen["public"]},
            "admin": {"listen": listen["admin"], "drain_seconds": 0},
            "console": {"listen": listen["console"]},
            "buffer": {"path": folder / "buffer.db"},
            "sites": {
                "demo": {
                    "browser_keys": [DEMO_KEY],
                    "origins": [storefront, storefront.replace("127.0.0.1", "localhost")],
                    "destinations": ["voyado", "dub", "archive"],
                    "currency": "sek",
                }
            },
            "destinations": {
                "voyado": {
                    "kind": "voyado",
                    "base_url": addresses["voyado"],
                    "api_key": VoyadoSandbox().api_key,
                    "languages": DEMO_LANGUAGES,
                },
                "dub": {
                    "kind": "dub",
                    "base_url": addresses["dub"],
                    "api_key": DubSandbox().api_key,
                },
                "archive": {"kind": "file", "path": folder / "events"},
            },
            "sources": {
                DEMO_SOURCE: {
                    "kind": "postgrid",
                    "site": "demo",
                    "base_url": addresses["postgrid"],
                    "api_key": PostgridSandbox().test_key,
                    "webhook_secrets": [DEMO_WEBHOOK_SECRET],
                    "poll_seconds": 10.0,
                }
            },
        }
    )


def _stand_ins(
    taken: Mapping[PortName, socket.socket],
    storefront: str,
    webhook: str = "",
    dialect: DubDialect = "current",
) -> list[Server]:
    """Make them; `webhook`: where PostGrid is to tell of visits and orders."""
    static = data_folder("static")
    links = {"summer": f"{storefront}/?utm_source=summer"}
    apps: dict[PortName, web.Application] = {
        "voyado": create_voyado(VoyadoSandbox(), static),
        "dub": create_dub(DubSandbox(dialect=dialect, links=links), static),
        "postgrid": create_postgrid(
            PostgridSandbox(
                retry_seconds=WEBHOOK_RETRY_SECONDS,
                landing=f"{storefront}/",
                webhook_url=webhook,
                webhook_secret=DEMO_WEBHOOK_SECRET,
            ),
            static,
        ),
    }
    return [
        side_server(f"sandbox {name}", app, "--port-base", taken[name])
        for name, app in apps.items()
    ]


def _storefront(
    taken: Mapping[PortName, socket.socket], addresses: Mapping[PortName, str]
) -> Server:
    static = data_folder("static")
    collector = read_collector(static / "dist")
    tag = snippet(addresses["public"], DEMO_KEY, collector)
    app = create_storefront(StorefrontSandbox(snippet=tag), static)
    return side_server("storefront", app, "--port-base", taken["storefront"])
