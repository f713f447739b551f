"""The route of webhooks: who is asked, and what is answered."""

import io
from collections.abc import AsyncIterator, Mapping

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import generate_latest

from gateway.adapters.memory import MemoryBuffer
from gateway.http.public import PublicRunner, create_public
from gateway.http.settings import HttpSettings
from gateway.ingest import Ingest
from gateway.metrics import REGISTRY
from gateway.model.window import DedupSettings
from gateway.ports import Hook
from tests.sample import StoppedClock
from tests.unit.http.conftest import told

STATUSES = {
    Hook.TAKEN: 200,
    Hook.KNOWN: 200,
    Hook.UNUSED: 200,
    Hook.UNREADABLE: 200,
    Hook.WRONG_SIGNATURE: 401,
    Hook.STALE: 401,
    Hook.UNAVAILABLE: 503,
}


class ScriptedSource:
    def __init__(self) -> None:
        self.hook = Hook.TAKEN
        self.bodies: list[bytes] = []
        self.signatures: list[str | None] = []

    async def receive(self, body: bytes, headers: Mapping[str, str]) -> Hook:
        self.bodies.append(body)
        self.signatures.append(headers.get("postgrid-signature"))
        return self.hook


@pytest.fixture
def source() -> ScriptedSource:
    return ScriptedSource()


@pytest.fixture
async def client(
    source: ScriptedSource, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[aiohttp.ClientSession]:
    clock = StoppedClock()
    ingest = Ingest({}, MemoryBuffer(clock), clock, DedupSettings())
    settings = HttpSettings(requests_per_second=1)
    app = create_public(ingest, settings, clock, tmp_path_factory.mktemp("none"), {"mail": source})
    runner = PublicRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with aiohttp.ClientSession(address) as session:
        yield session
    await runner.cleanup()


@pytest.mark.parametrize("hook", list(Hook))
async def test_each_end_has_its_status_and_is_counted(
    hook: Hook, source: ScriptedSource, client: aiohttp.ClientSession
) -> None:
    source.hook = hook
    before = counted(hook)
    async with client.post("/v1/hooks/postgrid/mail", data=b"a.b.c") as answer:
        assert answer.status == STATUSES[hook]
        if answer.status != 200:
            await answer.read()
            told(answer)
        assert ("Retry-After" in answer.headers) == (answer.status == 503)
    assert counted(hook) == before + 1


def counted(hook: Hook) -> float:
    value = REGISTRY.get_sample_value("gateway_hooks_total", {"source": "mail", "outcome": hook})
    return value or 0.0


@pytest.mark.parametrize("kind", ["application/jwt", "text/plain", "application/json", ""])
async def test_a_body_is_taken_whatever_it_says_that_it_is(
    kind: str, source: ScriptedSource, client: aiohttp.ClientSession
) -> None:
    headers = {"Content-Type": kind, "PostGrid-Signature": "t=1,v1=2"}
    async with client.post("/v1/hooks/postgrid/mail", data=b"a.b.c", headers=headers) as answer:
        assert answer.status == 200
    assert source.bodies == [b"a.b.c"]
    assert source.signatures == ["t=1,v1=2"]


async def test_a_large_body_is_refused_unread(
    source: ScriptedSource, client: aiohttp.ClientSession
) -> None:
    body = io.BytesIO(bytes(1024 * 1024 + 1))
    async with client.post("/v1/hooks/postgrid/mail", data=body) as answer:
        assert answer.status == 413
    assert source.bodies == []


async def test_the_rate_of_an_address_does_not_hold_for_the_one_that_sends_all_webhooks(
    client: aiohttp.ClientSession,
) -> None:
    for _ in range(10):
        async with client.post("/v1/hooks/postgrid/mail", data=b"x") as answer:
            assert answer.status == 200


async def test_an_unknown_source_is_not_there_and_makes_no_label(
    client: aiohttp.ClientSession,
) -> None:
    async with client.post("/v1/hooks/postgrid/other_source", data=b"x") as answer:
        assert answer.status == 404
    assert b"other_source" not in generate_latest(REGISTRY)
    async with client.get("/v1/hooks/postgrid/mail") as answer:
        assert answer.status == 405
