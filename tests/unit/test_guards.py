"""The guards of tests/conftest.py, each seen to fail a test that breaks its rule."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

BAD_TESTS = '''
import asyncio
import logging
import os
import time
from pathlib import Path

import pytest

import gateway

made_up = str(Path(gateway.__file__).parent / "made_up.py")
code = {}
exec(compile("""
import os, time
def block(): time.sleep(0)
def sync(): os.fsync(1)
""", made_up, "exec"), code)


async def test_sleep():
    code["block"]()


async def test_fsync():
    code["sync"]()


async def test_sleep_in_a_thread():
    await asyncio.to_thread(code["block"])


async def test_plumbing_sleeps():
    time.sleep(0)


def test_error():
    logging.getLogger("gateway.made_up").error("it broke")


async def test_lost_exception():
    async def fail():
        raise ValueError("lost")
    task = asyncio.create_task(fail())
    await asyncio.sleep(0)
    del task


@pytest.mark.logs_errors("it broke")
def test_declared_error():
    logging.getLogger("gateway.made_up").error("it broke")


@pytest.mark.logs_errors("it broke")
def test_absent_error():
    logging.getLogger("gateway.made_up").warning("it broke")


@pytest.mark.timeout(0.2)
async def test_hang():
    await asyncio.Event().wait()


def test_program(needs, monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    needs("strace")


def test_program_in_ci(needs, monkeypatch):
    monkeypatch.setenv("CI", "true")
    monkeypatch.setenv("PATH", "/nowhere")
    needs("strace")


@pytest.fixture(scope="session")
def nobody():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.geteuid", lambda: 1)
        patch.setenv("CI", "true")
        yield


def test_root_in_ci(nobody, root):
    pass


@pytest.mark.system
def test_time_of_system_tests(request):
    assert request.node.get_closest_marker("timeout").args == (180,)
'''


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> str:
    folder = tmp_path_factory.mktemp("house")
    (folder / "tests").mkdir()
    for name in ("conftest.py", "brokers.py", "gateways.py"):
        shutil.copy(ROOT / "tests" / name, folder / "tests")
    shutil.copytree(ROOT / ".ci", folder / ".ci")
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "tests" / "test_bad.py").write_text(BAD_TESTS)
    environment = {**environment, "PYTHONPATH": str(ROOT), "COLUMNS": "300"}
    environment.pop("CI", None)
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout


@pytest.mark.parametrize(
    ("test", "fate", "why"),
    [
        ("test_sleep", "FAILED", "Blocking call to time.sleep"),
        ("test_fsync", "FAILED", "Blocking call to os.fsync"),
        ("test_sleep_in_a_thread", "PASSED", ""),
        ("test_plumbing_sleeps", "PASSED", ""),
        ("test_error", "ERROR", "unexpected errors logged"),
        ("test_lost_exception", "ERROR", "unexpected errors logged"),
        ("test_declared_error", "PASSED", ""),
        ("test_absent_error", "ERROR", "declared errors were not logged: .'it broke'"),
        ("test_hang", "FAILED", "Timeout"),
        ("test_program_in_ci", "FAILED", "strace is missing"),
        ("test_root_in_ci", "ERROR", "this needs root"),
        ("test_time_of_system_tests", "PASSED", ""),
    ],
)
def test_a_test_that_breaks_a_rule_of_the_house_fails(
    report: str, test: str, fate: str, why: str
) -> None:
    assert re.search(rf"^{fate} tests/test_bad.py::{test}\b.*{why}", report, re.MULTILINE), report


def test_outside_ci_a_missing_program_skips_with_the_line_that_installs_it(report: str) -> None:
    line = "strace is missing: apt-get install -y --no-install-recommends strace"
    assert re.search(rf"^SKIPPED .*{line}", report, re.MULTILINE), report


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="only a checkout has an index")
def test_no_link_is_committed() -> None:
    """A link leads to a place of one machine; merged, it takes that of a folder on others."""
    listed = subprocess.run(
        ["git", "ls-files", "--stage"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert listed
    assert not [each for each in listed if each.startswith("120000")]
