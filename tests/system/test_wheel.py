"""What users install: the wheel, away from the checkout."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from gateway import __version__

ROOT = Path(__file__).parent.parent.parent
pytestmark = pytest.mark.system


def run(*command: str, folder: Path, environment: dict[str, str]) -> str:
    """Return what the command printed; anything but exit status 0 fails the test."""
    ran = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """Build the wheel, with the locked build tools: no index is asked."""
    folder = tmp_path_factory.mktemp("dist")
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder))
    run(*build, folder=ROOT, environment=environment)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(
    wheel: Path, tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]
) -> Path:
    """Install the wheel alone; what it depends on is the test environment's."""
    folder = tmp_path_factory.mktemp("site")
    pip = (sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps")
    run(*pip, "--target", str(folder), str(wheel), folder=folder, environment=environment)
    return folder


def test_the_wheel_holds_what_users_need_and_nothing_of_ours(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "gateway/_data/config/minimal.toml" in names
    assert "gateway/_data/config/reference.toml" in names
    assert any(name.startswith("gateway/_data/static/") for name in names)
    parts = {part for name in names for part in name.split("/")}
    assert not parts & {"node_modules", "package.json", "test", "tests"}
    assert not [part for part in parts if ".test." in part]
    assert {name.split("/")[0] for name in names} == {
        "gateway",
        f"storefront_gateway-{__version__}.dist-info",
    }


def test_the_installed_gateway_runs_away_from_the_checkout(
    installed: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    environment = {**environment, "PYTHONPATH": str(installed)}
    as_module = (sys.executable, "-m", "gateway")
    said = run(*as_module, "--version", folder=tmp_path, environment=environment)
    assert __version__ in said
    script = str(installed / "bin" / "gateway")
    assert run(script, "--version", folder=tmp_path, environment=environment) == said
    reference = run(*as_module, "config", folder=tmp_path, environment=environment)
    assert reference.strip() == (ROOT / "config" / "reference.toml").read_text("utf-8").strip()
    find = "from gateway.http.assets import data_folder as f; print(f('static'), f('config'))"
    found = run(sys.executable, "-c", find, folder=tmp_path, environment=environment)
    data = installed / "gateway" / "_data"
    assert found.split() == [str(data / "static"), str(data / "config")]
