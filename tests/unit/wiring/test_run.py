"""Ports, the end of a process, and deliveries that fail."""

import asyncio
import socket
from contextlib import suppress
from pathlib import Path

import pytest
from aiohttp import ClientError, ClientSession, web

from gateway.settings.load import load
from gateway.wiring.parts import build, build_deliver
from gateway.wiring.run import keep_running, side_server
from gateway.wiring.sandbox import PortPlan, demo_settings
from gateway.wiring.servers import CannotListenError, Server, address, bind, url
from gateway.wiring.stop import end_all


def test_a_taken_port_is_told_with_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(CannotListenError) as caught:
            bind(f"127.0.0.1:{port}", "http.listen")
    assert f"port {port} on 127.0.0.1 is taken" in str(caught.value)
    assert "http.listen" in str(caught.value)


@pytest.mark.parametrize("listen", ["no-such-host.invalid:80", "192.0.2.1:80"])
def test_an_address_that_is_not_this_machines_is_told(listen: str) -> None:
    with pytest.raises(CannotListenError, match=f"cannot listen on {listen}"):
        bind(listen, "http.listen")


async def test_a_port_that_another_took_since_is_told_and_all_is_closed() -> None:
    with bind("127.0.0.1:0", "http.listen") as taken:
        listen = str(address(taken))
        server = side_server("events", web.Application(), "http.listen", listen)
        server.take()
        taken.listen()
        with pytest.raises(CannotListenError, match="is taken"):
            await server.start()
        assert not server.is_serving


async def test_a_stopped_server_waits_for_a_request_in_flight_only_so_long() -> None:
    begun, never = asyncio.Event(), asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        begun.set()
        await never.wait()
        return web.Response()

    app = web.Application()
    app.router.add_get("/", hang)
    runner = web.AppRunner(app, shutdown_timeout=0.01)
    server = Server("events", runner, "http.listen", "127.0.0.1:0", grace_seconds=0.05)
    await server.start()
    async with ClientSession() as session:
        getting = asyncio.create_task(session.get(url(server.take())))
        await begun.wait()
        async with asyncio.timeout(5):
            await server.stop()
        with pytest.raises(ClientError):
            await getting


async def test_a_connection_is_closed_after_its_next_answer_once_the_end_has_begun() -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        begun.set()
        await go_on.wait()
        return web.Response(text="done")

    app = web.Application()
    app.router.add_get("/", slow)
    server = Server("events", web.AppRunner(app), "http.listen", "127.0.0.1:0", grace_seconds=5)
    await server.start()
    async with ClientSession() as session:
        getting = asyncio.create_task(session.get(url(server.take())))
        await begun.wait()
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0)
        go_on.set()
        async with await getting as answer:
            assert await answer.text() == "done"
            assert answer.headers["Connection"] == "close"
        await stopping


def test_a_free_port_is_found() -> None:
    with bind("127.0.0.1:0", "http.listen") as taken:
        assert address(taken).port > 0


def test_the_demo_takes_its_usual_ports_or_those_from_a_base_on() -> None:
    assert PortPlan().of("public") == 8080
    assert [PortPlan(7000).of(name) for name in ("public", "dub")] == [7000, 7005]
    assert PortPlan(0).of("dub") == 0


def test_ports_taken_before_one_that_is_not_free_are_given_back() -> None:
    base = _free_pair()
    with socket.create_server(("127.0.0.1", base + 1)):
        with pytest.raises(CannotListenError):
            PortPlan(base).take("public", "admin")
        with socket.create_server(("127.0.0.1", base)):
            pass


def _free_pair() -> int:
    """Return a free port whose next is free too.

    Neither is one that the system gives to who asks for any: another connection would be given it
    while the test runs.
    """
    given = Path("/proc/sys/net/ipv4/ip_local_port_range")
    lowest = int(given.read_text().split()[0]) if given.exists() else 32_768
    for base in range(lowest - 2, 1024, -2):
        with suppress(CannotListenError):
            for taken in PortPlan(base).take("public", "admin").values():
                taken.close()
            return base
    raise AssertionError("no two ports are free")


async def test_every_kind_of_destination_is_built(tmp_path: Path) -> None:
    addresses = {
        "public": "http://127.0.0.1:1",
        "admin": "http://127.0.0.1:2",
        "console": "http://127.0.0.1:3",
        "storefront": "http://127.0.0.1:4",
        "voyado": "http://127.0.0.1:5",
        "postgrid": "http://127.0.0.1:7",
        "dub": "http://127.0.0.1:6",
    }
    parts = await asyncio.to_thread(lambda: build(demo_settings(addresses, tmp_path)))  # type: ignore[arg-type] # a plain dict is as good
    assert set(parts.destinations) == {"voyado", "dub", "archive"}
    assert set(build_deliver(parts)) == {"voyado", "dub", "archive"}


def test_building_opens_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    build(load(None, {}))
    assert not list(tmp_path.iterdir())


async def test_what_does_not_end_in_time_is_named() -> None:
    async def ends() -> None:
        await asyncio.sleep(0)

    never = asyncio.Event()
    deadline = asyncio.get_running_loop().time() + 0.05
    hung = await end_all({"quick": ends(), "slow": _wait(never)}, deadline)
    assert hung == ("slow",)
    never.set()


@pytest.mark.logs_errors("broken did not end well")
async def test_what_fails_at_the_end_counts_as_ended() -> None:
    async def fails() -> None:
        raise OSError("no")

    assert not await end_all({"broken": fails()}, asyncio.get_running_loop().time() + 5)


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


@pytest.mark.logs_errors("archive: cannot be opened.*no folder", "archive: failed")
async def test_a_delivery_that_fails_begins_again() -> None:
    ending = asyncio.Event()
    faults: list[Exception] = [OSError("no folder"), RuntimeError("a fault")]

    async def deliver(ending: asyncio.Event) -> None:
        if faults:
            raise faults.pop(0)
        ending.set()

    await asyncio.wait_for(keep_running("archive", deliver, ending), 20)
    assert ending.is_set()


@pytest.mark.logs_errors("archive: cannot be opened")
async def test_the_end_is_not_kept_waiting_by_a_delivery_that_fails() -> None:
    ending = asyncio.Event()

    async def deliver(ending: asyncio.Event) -> None:
        ending.set()
        raise OSError("no folder")

    await asyncio.wait_for(keep_running("archive", deliver, ending), 0.5)
