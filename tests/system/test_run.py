"""`gateway run` as a whole process: it starts, takes events in, delivers, and ends in order."""

import asyncio
import re
import signal
import socket
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import ClientSession, ClientTimeout, web

from gateway.adapters.clock import SystemClock
from gateway.adapters.sqlite import SqliteBuffer
from gateway.adapters.sqlite.settings import SqliteSettings
from gateway.model.instant import format_ms
from gateway.model.window import DedupSettings
from gateway.ports import Log
from tests.gateways import free_port

pytestmark = pytest.mark.system

SITE = """
[http]
listen = "127.0.0.1:0"
[admin]
listen = "127.0.0.1:0"
drain_seconds = 0
[console]
listen = "127.0.0.1:0"
[buffer]
path = "buffer.db"
[sites.shop]
browser_keys = ["pk_shop"]
origins = ["https://shop.example"]
destinations = ["archive"]
[destinations.archive]
kind = "file"
path = "events"
batch_seconds = 0
"""


HEADERS = {"Origin": "https://shop.example", "Content-Type": "text/plain"}


class Running:
    """A process, its lines, and where it listens."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reading = asyncio.create_task(self._read())
        self._news = asyncio.Event()

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.lines.append(line.decode().rstrip("\n"))
            self._news.set()
        self._news.set()

    async def said(self, pattern: str, seconds: float = 20) -> re.Match[str]:
        """Wait for a line; fails when the process ends without it."""
        async with asyncio.timeout(seconds):
            while True:
                for line in self.lines:
                    if found := re.search(pattern, line):
                        return found
                assert not self._reading.done(), f"{pattern!r} is not in {self.lines}"
                self._news.clear()
                await self._news.wait()

    async def url(self, name: str) -> str:
        return (await self.said(rf" {name}: (http://\S+)"))[1]

    async def ended(self, seconds: float = 40) -> int:
        async with asyncio.timeout(seconds):
            await self._reading
            return await self.process.wait()

    async def stop(self, which: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(which)
        return await self.ended()


@asynccontextmanager
async def running(folder: Path, text: str, environment: dict[str, str]) -> AsyncIterator[Running]:
    path = folder / "gateway.toml"
    path.write_text(text)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "run", "--config", path.name,
        cwd=folder, stderr=PIPE, env={**environment, "PYTHONPATH": str(Path.cwd())},
    )  # fmt: skip
    found = Running(process)
    try:
        yield found
    finally:
        if process.returncode is None:
            process.kill()
        await found.ended()


def body(*ids: str) -> bytes:
    now = format_ms(SystemClock().now_ms())
    events = [{"type": "page", "id": each, "time": now} for each in ids]
    return orjson.dumps({"key": "pk_shop", "sentAt": now, "events": events})


async def post(url: str, data: Any) -> int:
    async with (
        ClientSession(timeout=ClientTimeout(total=20)) as session,
        session.post(f"{url}/v1/events", data=data, headers=HEADERS) as answer,
    ):
        return answer.status


async def get(url: str) -> tuple[int, str]:
    async with ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def until_refused(url: str) -> None:
    """Wait until nothing listens any more."""
    host, _, port = url.removeprefix("http://").partition(":")
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except ConnectionRefusedError:
                return
            writer.close()
            await asyncio.sleep(0.02)


async def delivered(folder: Path, *ids: str) -> list[str]:
    """Wait until the file destination holds events; return the ids of all, in order."""
    async with asyncio.timeout(20):
        while True:
            files = sorted((folder / "events").glob("*.ndjson"))
            lines = [line for file in files for line in file.read_text().splitlines()]
            found = [str(orjson.loads(line)["id"]) for line in lines]
            if set(ids) <= set(found):
                return found
            await asyncio.sleep(0.05)


async def test_it_serves_delivers_ends_with_0_and_goes_on_where_it_was(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    async with running(tmp_path, SITE, environment) as first:
        assert await post(await first.url("events"), body("e1", "e2")) == 204
        assert await delivered(tmp_path, "e2") == ["e1", "e2"]
        assert await first.stop() == 0
        assert "every position is kept" in first.lines[-1]
    async with running(tmp_path, SITE, environment) as second:
        assert await post(await second.url("events"), body("e3")) == 204
        assert await delivered(tmp_path, "e3") == ["e1", "e2", "e3"]
        assert await second.stop(signal.SIGINT) == 0


async def test_the_admin_and_console_ports_answer(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    async with running(tmp_path, SITE, environment) as gateway:
        admin = await gateway.url("admin")
        console = await gateway.url("console")
        assert (await get(f"{admin}/readyz"))[0] == 200
        _, text = await get(f"{admin}/metrics")
        assert "gateway_build_info{" in text
        assert (await get(f"{console}/"))[0] == 200
        assert await gateway.stop() == 0


async def test_after_sigterm_it_is_not_ready_but_serves_until_the_drain_is_over(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    text = SITE.replace("drain_seconds = 0", "drain_seconds = 2")
    async with running(tmp_path, text, environment) as gateway:
        admin, events = await gateway.url("admin"), await gateway.url("events")
        await gateway.said("delivering")
        gateway.process.send_signal(signal.SIGTERM)
        await gateway.said("SIGTERM")
        assert (await get(f"{admin}/readyz"))[0] == 503
        assert await post(events, body("late")) == 204
        assert await gateway.ended() == 0


async def test_a_request_in_flight_at_the_end_is_answered(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    async with running(tmp_path, SITE, environment) as gateway:
        events = await gateway.url("events")
        await gateway.said("delivering")
        go_on = asyncio.Event()
        begun = asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            whole = body("slow")
            yield whole[:20]
            begun.set()
            await go_on.wait()
            yield whole[20:]

        posting = asyncio.create_task(post(events, slowly()))
        await begun.wait()
        # Another request's answer shows that the first one's head has arrived too.
        assert (await get(f"{events}/openapi.json"))[0] == 200
        gateway.process.send_signal(signal.SIGTERM)
        await gateway.said("SIGTERM")
        await until_refused(events)
        go_on.set()
        assert await posting == 204
        assert await gateway.ended() == 0
    assert await held(tmp_path) == ["slow"]


async def held(folder: Path) -> list[str]:
    """Return the ids in the log of a gateway that has ended."""
    buffer = SqliteBuffer(
        SqliteSettings(path=folder / "buffer.db"), SystemClock(), (), DedupSettings()
    )
    await buffer.start()
    try:
        span = await buffer.span(Log.EVENTS, 0)
        records = await buffer.read(Log.EVENTS, 0, span.first, 100)
    finally:
        await buffer.stop()
    return [orjson.loads(record.value)["event"]["id"] for record in records]


async def test_what_hangs_is_named_and_the_exit_status_is_1(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    asked = asyncio.Event()

    async def never(_: web.Request) -> web.Response:
        asked.set()
        await asyncio.sleep(3600)
        return web.Response()

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", never)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    text = (
        SITE.replace("drain_seconds = 0", "drain_seconds = 0\nstop_seconds = 0.5").replace(
            '["archive"]', '["archive", "dub"]'
        )
        + f"""
[destinations.dub]
kind = "dub"
base_url = "http://127.0.0.1:{port}"
api_key = "dub_key"
timeout_seconds = 300
"""
    )
    now = format_ms(SystemClock().now_ms())
    lead = {"type": "lead", "id": "l1", "time": now, "eventName": "Sign up", "customerId": "u"}
    data = orjson.dumps(
        {
            "key": "pk_shop",
            "sentAt": now,
            "context": {"consent": "full", "clickId": "c"},
            "events": [lead],
        }
    )
    try:
        async with running(tmp_path, text, environment) as gateway:
            assert await post(await gateway.url("events"), data) == 204
            await asyncio.wait_for(asked.wait(), 10)
            assert await gateway.stop() == 1
            assert "did not end within 0.5 s: dub" in gateway.lines[-1]
    finally:
        await runner.cleanup()


async def test_a_second_signal_ends_it_at_once(tmp_path: Path, environment: dict[str, str]) -> None:
    text = SITE.replace("drain_seconds = 0", "drain_seconds = 600")
    async with running(tmp_path, text, environment) as gateway:
        await gateway.said("delivering")
        gateway.process.send_signal(signal.SIGTERM)
        await gateway.said("SIGTERM: stopping")
        gateway.process.send_signal(signal.SIGTERM)
        assert await gateway.ended(5) == 1


async def test_a_taken_port_is_one_line_and_status_1(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        text = SITE.replace(
            '[http]\nlisten = "127.0.0.1:0"', f'[http]\nlisten = "127.0.0.1:{port}"'
        )
        async with running(tmp_path, text, environment) as gateway:
            assert await gateway.ended() == 1
            assert gateway.lines[-1].startswith(f"gateway: port {port} on 127.0.0.1 is taken")
            assert not any("Traceback" in line for line in gateway.lines)


async def test_a_second_gateway_waits_for_the_log_and_takes_over(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    async with running(tmp_path, SITE, environment) as first:
        await first.said("delivering")
        async with running(tmp_path, SITE, environment) as second:
            await second.said("another gateway .* holds .*buffer.db; waiting")
            assert (await get(f"{await second.url('admin')}/readyz"))[0] == 503
            assert await first.stop() == 0
            await second.said("delivering")
            assert await second.stop() == 0


async def test_a_second_gateway_on_the_same_ports_takes_them_over_with_the_log(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    text = SITE
    for _ in range(3):
        text = text.replace("127.0.0.1:0", f"127.0.0.1:{free_port()}", 1)
    async with running(tmp_path, text, environment) as first:
        events = await first.url("events")
        await first.said("delivering")
        async with running(tmp_path, text, environment) as second:
            await second.said("admin port is taken")
            await second.said("waiting")
            assert await first.stop() == 0
            assert await second.url("events") == events
            await second.said("delivering")
            assert (await get(f"{await second.url('admin')}/readyz"))[0] == 200
            assert await post(events, body("e1")) == 204
            assert await second.stop() == 0


async def test_one_that_waits_for_the_log_can_be_ended(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    async with running(tmp_path, SITE, environment) as first:
        await first.said("delivering")
        async with running(tmp_path, SITE, environment) as second:
            await second.said("waiting")
            assert await second.stop() == 0
        assert await first.stop() == 0


async def test_a_destination_that_cannot_be_opened_hurts_no_other(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    (tmp_path / "blocked").write_text("a file where the folder should be")
    text = SITE.replace('["archive"]', '["archive", "other"]') + (
        '[destinations.other]\nkind = "file"\npath = "blocked"\n'
    )
    async with running(tmp_path, text, environment) as gateway:
        assert await post(await gateway.url("events"), body("e1")) == 204
        assert await delivered(tmp_path, "e1") == ["e1"]
        await gateway.said("error: other: cannot be opened")
        assert await gateway.stop() == 0


async def test_no_request_writes_a_log_line(tmp_path: Path, environment: dict[str, str]) -> None:
    async with running(tmp_path, SITE, environment) as gateway:
        events = await gateway.url("events")
        await gateway.said("delivering")
        before = len(gateway.lines)
        assert await post(events, body("e1")) == 204
        assert (await get(f"{events}/nothing-here"))[0] == 404
        await delivered(tmp_path, "e1")
        assert len(gateway.lines) == before
        assert await gateway.stop() == 0


async def test_a_warning_is_logged_at_the_start(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    text = SITE.replace('origins = ["https://shop.example"]\n', "")
    async with running(tmp_path, text, environment) as gateway:
        await gateway.said(r"warning: sites\.shop\.origins \(gateway\.toml:\d+\): is empty")
        await gateway.said("delivering")
        assert await gateway.stop() == 0
