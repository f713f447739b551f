"""A real Apache Kafka broker for the tests: one node, from Maven's jars, no container.

The jars are fetched once, into `.cache/kafka` of the checkout. See `tests/broker/pom.xml`.
"""

import asyncio
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from gateway.adapters.kafka.settings import KafkaSettings
from tests.gateways import free_port

POM = Path(__file__).parent / "broker" / "pom.xml"
CACHE = Path(__file__).parent.parent / ".cache" / "kafka"
TEST_SECONDS = 120
"""For a test on a broker: the first one waits for it to start, perhaps for its jars."""
START_SECONDS = 90
"""It takes 3 to 8; after a kill up to 6 more, until the broker's old registration has ended."""
FETCH_SECONDS = 300
STOP_SECONDS = 30
LOG_LINES = 40
JAVA_OPTIONS = ("-Xms256m", "-Xmx512m", "-XX:+UseSerialGC")

PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},SECURE://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},SECURE://127.0.0.1:{secure}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:{protocol}
log.dirs={data}
# The defaults of these never come up on one broker.
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# Quick groups, quick restarts, little memory; a misspelt topic fails.
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=500
auto.create.topics.enable=false
log.cleaner.dedupe.buffer.size=33554432
log.index.size.max.bytes=1048576
# So that retention can be watched.
log.retention.check.interval.ms=1000
{more}
"""

Needs = Callable[[str], str]


@dataclass
class Security:
    """How a broker's second listener is guarded."""

    protocol: str = "PLAINTEXT"
    lines: Mapping[str, str] = field(default_factory=dict)
    """Of server.properties, for that listener alone."""
    scram: Sequence[str] = ()
    """Users, as the tool that formats takes them."""


class Broker:
    """One broker on a folder; stopped or killed and started again, it goes on where it was."""

    def __init__(self, folder: Path, needs: Needs, security: Security | None = None) -> None:
        """Skip the test without Java or Maven."""
        self._java = needs("java")
        self._jars = f"{fetched(needs)}/*"
        self._folder = folder
        self._data = folder / "data"
        self._properties = folder / "server.properties"
        self._log = folder / "broker.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._security = security or Security()
        self.port = free_port()
        self.secure_port = free_port()
        text = PROPERTIES.format(
            port=self.port,
            secure=self.secure_port,
            controller=free_port(),
            data=self._data,
            protocol=self._security.protocol,
            more="\n".join(
                f"listener.name.secure.{name}={value}"
                for name, value in self._security.lines.items()
            ),
        )
        folder.mkdir(parents=True, exist_ok=True)
        self._properties.write_text(text)

    @property
    def server(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until a Metadata answer lists a broker and our process lives."""
        self._format()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._java, *JAVA_OPTIONS, "-cp", self._jars, "kafka.Kafka", self._properties],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not asyncio.run(answers(self.server)):
            self._must_live()
            if time.monotonic() > deadline:
                self.kill()
                pytest.fail(f"the broker does not answer; its log:\n{self.log()}", pytrace=False)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.2)
        self._must_live()  # else another one answered, on a port that ours could not have

    def stop(self) -> None:
        """SIGTERM."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it as kill -9 does."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Freeze it: connections stay up, nothing answers."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        os.waitpid(self._process.pid, os.WUNTRACED)  # until its every thread has stopped

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Remove what it holds, when it is stopped."""
        shutil.rmtree(self._data)

    def log(self) -> str:
        """The end of what it printed."""
        lines = self._log.read_text(errors="replace").splitlines() if self._log.exists() else []
        return "\n".join(lines[-LOG_LINES:])

    def _format(self) -> None:
        if (self._data / "meta.properties").exists():
            return
        tool = [self._java, "-cp", self._jars, "kafka.tools.StorageTool"]
        new = subprocess.run([*tool, "random-uuid"], check=True, capture_output=True, text=True)
        cluster = new.stdout.split()[-1]
        options = ["--config", str(self._properties), "--cluster-id", cluster, "--standalone"]
        for user in self._security.scram:
            options += ["--add-scram", user]
        done = subprocess.run([*tool, "format", *options], check=False, capture_output=True)
        if done.returncode:
            pytest.fail(f"the broker's folder could not be made:\n{done.stderr.decode()}")

    def _must_live(self) -> None:
        assert self._process is not None
        if self._process.poll() is not None:
            pytest.fail(f"the broker ended; its log:\n{self.log()}", pytrace=False)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def fetched(needs: Needs) -> Path:
    """Return the folder of the jars, which are fetched the first time, by one process."""
    jars, stamp = CACHE / "lib", CACHE / "pom.xml"
    maven = needs("mvn")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not stamp.exists() or stamp.read_text() != POM.read_text():
            shutil.rmtree(jars, ignore_errors=True)
            goal = ("dependency:copy-dependencies", f"-DoutputDirectory={jars}")
            done = subprocess.run(
                [maven, "-q", "-B", "-f", POM, *goal],
                check=False, capture_output=True, text=True, timeout=FETCH_SECONDS,
            )  # fmt: skip
            if done.returncode:
                pytest.fail(f"Kafka's jars could not be fetched:\n{done.stdout}{done.stderr}")
            shutil.copyfile(POM, stamp)
    return jars


async def answers(server: str) -> bool:
    """Whether a Metadata answer lists a broker."""
    host, _, port = server.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
    except OSError:
        return False  # without the library's line about it
    client = AIOKafkaClient(bootstrap_servers=server, request_timeout_ms=2000)
    try:
        await client.bootstrap()
        return bool(client.cluster.brokers())
    except KafkaError:
        return False
    finally:
        await client.close()


def on_broker(broker: Broker, partitions: int) -> KafkaSettings:
    """Settings for that broker, with topics of their own."""
    return KafkaSettings(
        kind="kafka",
        servers=(broker.server,),
        topic_prefix=f"{uuid4()}.",
        partitions=partitions,
        single_node=True,
    )
