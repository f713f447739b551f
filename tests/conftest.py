"""What every test gets without asking, and what it may ask for.

Without asking: 30 seconds (`system` tests: 180, on a broker: 120), no blocking call in the event
loop, and no error logged that the test did not declare with `@pytest.mark.logs_errors("…")`.
"""

import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from blockbuster import BlockBuster, BlockBusterFunction
from hypothesis import settings

from tests.brokers import TEST_SECONDS as BROKER_TEST_SECONDS
from tests.brokers import Broker

ROOT = Path(__file__).parent.parent
SYSTEM_TEST_SECONDS = 180
LOGGERS = ("gateway", "asyncio", "aiohttp")
# The time for the whole test is limited; one example may be slow on a busy machine.
settings.register_profile("without_deadline", deadline=None)
settings.load_profile("without_deadline")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give system tests, and those on a broker, more time, unless they say how much they need."""
    for item in items:
        if item.get_closest_marker("timeout"):
            continue
        if item.get_closest_marker("system"):
            item.add_marker(pytest.mark.timeout(SYSTEM_TEST_SECONDS))
        elif "broker" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.timeout(BROKER_TEST_SECONDS))


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Return a copy of the environment, for a process that the test starts."""
    return dict(os.environ)


@pytest.fixture(scope="session")
def needs() -> Callable[[str], str]:
    """Return `program`."""
    return program


def program(name: str) -> str:
    """Return the path of a program of .ci/programs.txt.

    When it is missing it skips the test and says how to install it; under CI, where nothing may
    be skipped for want of a program, it fails the test.
    """
    table = (ROOT / ".ci" / "programs.txt").read_text("utf-8").splitlines()
    packages = dict(line.split() for line in table if not line.startswith("#"))
    path = shutil.which(name)
    if path is None:
        missing = f"{name} is missing: apt-get install -y --no-install-recommends {packages[name]}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(missing)
    return path


@pytest.fixture(scope="session")
def root() -> None:
    """Run the test as root only: skipped elsewhere, and under CI failed, like a missing program."""
    if os.geteuid() != 0:
        (pytest.fail if os.environ.get("CI") else pytest.skip)("this needs root: sudo make test")


@pytest.fixture(scope="session")
def broker(
    needs: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Broker]:
    """Return the session's Kafka broker. Who stops or freezes it leaves it as it was."""
    broker = Broker(tmp_path_factory.mktemp("kafka"), needs)
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def blocking_calls() -> BlockBuster:
    """Return the guard against blocking calls; only those made by gateway code count."""
    guard = BlockBuster(scanned_modules="gateway")
    for call in ("os.fsync", "os.fdatasync"):
        guard.functions[call] = BlockBusterFunction(None, call, scanned_modules="gateway")
    return guard


@pytest.fixture(autouse=True)
def _no_blocking_call(blocking_calls: BlockBuster) -> Iterator[None]:
    blocking_calls.activate()
    yield
    blocking_calls.deactivate()


class _Errors(logging.Handler):
    """Keeps what was logged as an error or worse."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(logging.Formatter("%(name)s: %(message)s").format(record))


@pytest.fixture(autouse=True)
def _no_unexpected_error(request: pytest.FixtureRequest) -> Iterator[None]:
    errors = _Errors()
    for name in LOGGERS:
        logging.getLogger(name).addHandler(errors)
    yield
    for name in LOGGERS:
        logging.getLogger(name).removeHandler(errors)
    declared = [p for mark in request.node.iter_markers("logs_errors") for p in mark.args]
    surprises = [text for text in errors.texts if not any(re.search(p, text) for p in declared)]
    if surprises:
        pytest.fail("unexpected errors logged:\n" + "\n".join(surprises), pytrace=False)
    absent = [p for p in declared if not any(re.search(p, text) for text in errors.texts)]
    if absent:
        pytest.fail(f"declared errors were not logged: {absent}", pytrace=False)
