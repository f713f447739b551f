"""The scripted server and the real HTTP client."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from gateway.adapters.http_client import AiohttpClient
from tests.contract.scripted import Scripted


@pytest.fixture
async def scripted() -> AsyncIterator[Scripted]:
    script = Scripted()
    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{rest:.*}", script.handle)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    script.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield script
    await runner.cleanup()
    assert not script.surprises, "requests that nobody expected"
    assert not script.rest, "expected requests that never came"


@pytest.fixture
async def http() -> AsyncIterator[AiohttpClient]:
    client = AiohttpClient()
    await client.start()
    yield client
    await client.stop()
