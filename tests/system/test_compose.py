"""The compose file, as far as it can be judged without docker: what it mounts loads, and fits."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway import __version__
from gateway.adapters.destinations.file import FileSettings
from gateway.adapters.kafka.settings import KafkaSettings
from gateway.cli.main import gateway
from gateway.http.listen import address_of
from gateway.settings.load import examine
from gateway.settings.sections import Settings
from gateway.wiring.parts import index_path

pytestmark = pytest.mark.system

ROOT = Path(__file__).parent.parent.parent
ROLES = ("ingest", "deliver", "console")
WORKING_FOLDER = Path("/var/lib/gateway")
"""The image's, in which paths begin that are not absolute."""
TOKEN = "0123456789abcdef"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "compose.yaml").read_text("utf-8")))


@pytest.fixture
def settings(compose: dict[str, Any], tmp_path: Path) -> Settings:
    """What the three roles load, with the token that whoever starts them must give."""
    content = compose["configs"]["gateway"]["content"]
    assert "$" not in content  # compose would put a variable in
    file = tmp_path / "gateway.toml"
    file.write_text(content, "utf-8")
    (given,) = {str(compose["services"][role]["environment"]) for role in ROLES}
    (variable,) = re.findall(r"\$\{([A-Z_]+):\?", given)
    assert variable == "GATEWAY_CONSOLE__TOKEN"
    examined = examine(file, {variable: TOKEN})
    assert not examined.problems
    assert examined.settings is not None
    return examined.settings


def test_each_role_is_a_command_on_the_mounted_configuration(compose: dict[str, Any]) -> None:
    for role in ROLES:
        service = compose["services"][role]
        (mounted,) = service["configs"]
        assert service["command"] == [role, "--config", mounted["target"]]
        assert role in gateway.commands
        assert mounted["source"] in compose["configs"]
        assert service["image"] == f"gateway:{__version__}"
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]


def test_the_gateway_finds_the_broker_where_it_says_that_it_is(
    compose: dict[str, Any], settings: Settings
) -> None:
    broker = compose["services"]["kafka"]["environment"]
    assert isinstance(settings.buffer, KafkaSettings)
    assert settings.buffer.single_node
    (server,) = settings.buffer.servers
    assert broker["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://{server}"
    assert server.partition(":")[0] in compose["services"]


def test_only_events_and_console_are_published_and_on_this_machine_alone(
    compose: dict[str, Any], settings: Settings
) -> None:
    published = {name: each.get("ports") for name, each in compose["services"].items()}
    events, console = address_of(settings.http.listen), address_of(settings.console.listen)
    assert published == {
        "ingest": [f"127.0.0.1:{events.port}:{events.port}"],
        "console": [f"127.0.0.1:{console.port}:{console.port}"],
        "deliver": None,
        "kafka": None,
    }
    assert (events.host, console.host) == ("0.0.0.0", "0.0.0.0")


def test_what_is_written_is_on_a_volume(compose: dict[str, Any], settings: Settings) -> None:
    archive = settings.destinations["archive"]
    assert isinstance(archive, FileSettings)
    written = {"deliver": archive.path, "console": index_path(settings)}
    for role, path in written.items():
        (volume,) = compose["services"][role]["volumes"]
        name, _, place = volume.partition(":")
        assert name in compose["volumes"]
        assert (WORKING_FOLDER / path).is_relative_to(place)


def test_a_container_that_ends_has_the_time_that_the_gateway_takes(
    compose: dict[str, Any], settings: Settings
) -> None:
    needed = settings.admin.drain_seconds + settings.admin.stop_seconds
    for role in ROLES:
        grace = compose["services"][role]["stop_grace_period"]
        assert int(grace.removesuffix("s")) >= needed + 5
