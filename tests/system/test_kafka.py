"""Kafka against what only whole processes can show: a frozen member, a broker that comes late."""

import asyncio
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientError, ClientSession

from gateway.adapters.clock import SystemClock
from gateway.adapters.kafka import KafkaBuffer, KafkaSettings
from gateway.model.instant import format_ms
from gateway.ports import Assignment, Position
from tests.brokers import Broker, on_broker
from tests.gateways import ORIGIN, Gateway, config, eventually, sandboxes
from tests.system.member import DESTINATION, HAND_OVER_SECONDS, KEEP_SECONDS

pytestmark = pytest.mark.system

ROOT = Path(__file__).parent.parent.parent
DEADLINE_SECONDS = 40
HIGH = Position(1_000_000, 7)

Needs = Callable[[str], str]


@pytest.fixture
def settings(broker: Broker) -> KafkaSettings:
    return on_broker(broker, partitions=3).model_copy(update={"session_seconds": 2.0})


class Member:
    """A member in a process of its own, and what it has said."""

    def __init__(self, process: Process) -> None:
        self.lines: list[str] = []
        self._process = process
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            self.lines.append(line.decode().strip())

    def send(self, which: signal.Signals) -> None:
        self._process.send_signal(which)

    async def until(self, condition: Callable[[list[str]], bool], since: int = 0) -> None:
        async def said() -> bool:
            return condition(self.lines[since:])

        await eventually(said, DEADLINE_SECONDS, f"said, but {self.lines[-20:]}", every=0.02)

    async def end(self) -> None:
        self._process.kill()
        await self._process.wait()
        await self._reading


@asynccontextmanager
async def member(settings: KafkaSettings) -> AsyncIterator[Member]:
    given = settings.model_dump_json(exclude_none=True)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.system.member", given, cwd=ROOT, stdout=subprocess.PIPE
    )
    found = Member(process)
    try:
        yield found
    finally:
        await found.end()


async def test_a_frozen_member_that_wakes_neither_commits_nor_confirms(
    settings: KafkaSettings,
) -> None:
    buffer = KafkaBuffer(settings, KEEP_SECONDS, HAND_OVER_SECONDS)
    await buffer.start()
    owned: dict[int, Assignment] = {}
    settled: list[Position | None] = []

    async def own(assignment: Assignment) -> None:
        await assignment.commit(HIGH)
        owned[assignment.partition] = assignment
        await assignment.ending.wait()
        settled.append(await assignment.committed())

    async def all_owned() -> bool:
        return len(owned) == buffer.partitions

    ending = asyncio.Event()
    async with member(settings) as frozen:
        await frozen.until(lambda said: {f"committed {each}" for each in range(3)} <= set(said))
        frozen.send(signal.SIGSTOP)
        call = asyncio.create_task(buffer.consume(DESTINATION, own, ending))
        await eventually(all_owned, DEADLINE_SECONDS, "everything owned by the successor")
        before = len(frozen.lines)
        frozen.send(signal.SIGCONT)
        await frozen.until(lambda said: any(line.startswith("owns") for line in said), before)
        woken = frozen.lines[before:]
        until_assigned = woken[: next(n for n, s in enumerate(woken) if s.startswith("owns"))]
        assert not [line for line in until_assigned if line.startswith("committed")], woken
        assert settled == [HIGH] * buffer.partitions, "its commits were overwritten"
        ending.set()
        await call
    await buffer.stop()


async def test_what_is_handed_over_is_finished_and_committed_first(settings: KafkaSettings) -> None:
    buffer = KafkaBuffer(settings, KEEP_SECONDS, HAND_OVER_SECONDS)
    await buffer.start()
    found: list[Position | None] = []

    async def own(assignment: Assignment) -> None:
        found.append(await assignment.committed())
        await assignment.ending.wait()

    ending = asyncio.Event()
    async with member(settings) as first:
        await first.until(lambda said: {f"committed {each}" for each in range(3)} <= set(said))
        call = asyncio.create_task(buffer.consume(DESTINATION, own, ending))

        async def shared() -> bool:
            return bool(found)

        await eventually(shared, DEADLINE_SECONDS, "a share of the partitions")
        assert {f"ends {each}" for each in range(3)} <= set(first.lines)
        assert not [line for line in first.lines if line.startswith("lost")]
        commits = first.lines.count("committed 0")
        assert found[0] is not None
        assert found[0].offset >= 1
        assert commits >= 1
        ending.set()
        await call
    await buffer.stop()


async def test_a_gateway_that_starts_before_kafka_says_so_waits_and_then_works(
    tmp_path: Path, needs: Needs
) -> None:
    broker = Broker(tmp_path / "kafka", needs)
    settings = on_broker(broker, partitions=2).model_copy(update={"answer_seconds": 2.0})
    async with sandboxes() as there:
        gateway = Gateway(tmp_path, config(tmp_path, there, buffer=settings))
        starting = asyncio.create_task(gateway.start())
        try:

            async def has_said_so() -> bool:
                return gateway.log().count("trying again") >= 2

            await eventually(has_said_so, DEADLINE_SECONDS, "said so")
            assert await status(f"http://127.0.0.1:{gateway.admin}/readyz") == 503
            await asyncio.to_thread(broker.start)
            await starting
            assert await post(gateway, "before") == 204
            await asyncio.to_thread(broker.kill)
            assert await post(gateway, "away") == 503
            await asyncio.to_thread(broker.start)

            async def works() -> bool:
                return await post(gateway, "away") == 204

            await eventually(works, DEADLINE_SECONDS, "works again", every=0.5)
            await gateway.until_drained(("voyado", "dub", "archive"), DEADLINE_SECONDS)
            assert await gateway.stop() == 0
        finally:
            starting.cancel()
            await gateway.abandon()
            await asyncio.to_thread(broker.stop)
    log = gateway.log()
    assert "Traceback" not in log
    assert len(log.splitlines()) < 60, log


async def status(url: str) -> int:
    try:
        async with ClientSession() as session, session.get(url) as answer:
            return answer.status
    except ClientError:
        return 0


async def post(gateway: Gateway, name: str) -> int:
    now = format_ms(SystemClock().now_ms())
    body = {
        "key": "pk_shop",
        "context": {"visitorId": "v", "consent": "full"},
        "events": [{"type": "page", "id": name, "time": now, "title": "x"}],
    }
    async with (
        ClientSession() as session,
        session.post(gateway.events_url, json=body, headers={"Origin": ORIGIN}) as answer,
    ):
        await answer.read()
        return answer.status
