"""The manifests as a cluster would get them: valid, consistent, and configured so that they load.

`kubernetes-validate` knows types and fields. What it misses is asked here: selectors that fit no
pod, ports and volumes that do not exist, quantities, names, and whether limits fit the settings.
"""

import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from gateway import __version__
from gateway.cli.main import gateway
from gateway.http.collector import ADAPTERS
from gateway.http.listen import address_of
from gateway.settings.checks import window_bytes
from gateway.settings.load import Examined, examine
from gateway.settings.sections import Settings
from gateway.wiring.parts import index_path

pytestmark = pytest.mark.system

K8S = Path(__file__).parent.parent.parent / "k8s"
README = (K8S / "README.md").read_text("utf-8")
OVERLAYS = ("embedded", "kafka")
NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
QUANTITY = re.compile(r"(\d+)(m|Ki|Mi|Gi)?")
UNITS = {"": 1, None: 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
WORKING_FOLDER = Path("/var/lib/gateway")
"""The image's, in which paths begin that are not absolute."""
SIDE_BYTES = 200 << 20
"""What a process takes besides its windows, with room for traffic."""

Needs = Callable[[str], str]
Resource = dict[str, Any]


@dataclass(frozen=True)
class Workload:
    """A Deployment or StatefulSet."""

    resource: Resource

    @property
    def template(self) -> Resource:
        return dict(self.resource["spec"]["template"])

    @property
    def labels(self) -> dict[str, str]:
        return dict(self.template["metadata"]["labels"])

    @property
    def pod(self) -> Resource:
        return dict(self.template["spec"])

    @property
    def container(self) -> Resource:
        (only,) = self.pod["containers"]
        return dict(only)

    @property
    def role(self) -> str:
        return str(self.container["args"][0])

    @property
    def ports(self) -> dict[str, int]:
        return {each["name"]: each["containerPort"] for each in self.container["ports"]}

    @property
    def claims(self) -> dict[str, Resource]:
        claims = self.resource["spec"].get("volumeClaimTemplates", [])
        return {each["metadata"]["name"]: each["spec"] for each in claims}

    def fits(self, selector: dict[str, str]) -> bool:
        return selector.items() <= self.labels.items()


@dataclass(frozen=True)
class Overlay:
    """All resources of one."""

    name: str
    text: str
    resources: tuple[Resource, ...]

    def of(self, *kinds: str) -> list[Resource]:
        return [each for each in self.resources if each["kind"] in kinds]

    @property
    def workloads(self) -> list[Workload]:
        return [Workload(each) for each in self.of("Deployment", "StatefulSet")]

    @property
    def config_maps(self) -> dict[str, dict[str, str]]:
        return {each["metadata"]["name"]: each["data"] for each in self.of("ConfigMap")}


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest, needs: Needs) -> Overlay:
    return render(request.param, needs("kubectl"))


def render(name: str, kubectl: str, folder: Path = K8S) -> Overlay:
    ran = subprocess.run(
        (kubectl, "kustomize", str(folder / "overlays" / name)),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert not ran.stderr
    return Overlay(name, ran.stdout, tuple(yaml.safe_load_all(ran.stdout)))


def secrets() -> dict[str, str]:
    """Return what the example names, as `kubectl create secret --from-env-file` reads it."""
    lines = (K8S / "secrets.example.env").read_text("utf-8").splitlines()
    pairs = [line.partition("=") for line in lines if line and not line.startswith("#")]
    return {name: value for name, _, value in pairs}


def mounted(overlay: Overlay, workload: Workload, folder: Path, kept: dict[str, str]) -> Examined:
    """Load the configuration as that workload's container finds it, with `kept` as its secrets."""
    volumes = {each["name"]: each for each in workload.pod["volumes"]}
    places = {each["name"]: each["mountPath"] for each in workload.container["volumeMounts"]}
    shown = {
        places["secrets"]: kept,
        places["config"]: overlay.config_maps[volumes["config"]["configMap"]["name"]],
    }
    for place, files in shown.items():
        (folder / place.lstrip("/")).mkdir(parents=True)
        for name, text in files.items():
            (folder / place.lstrip("/") / name).write_text(text, "utf-8")
    environment = {each["name"]: each["value"] for each in workload.container["env"]}
    for each in workload.container["envFrom"]:
        environment |= overlay.config_maps[each["configMapRef"]["name"]]
    environment["GATEWAY_SECRETS_DIR"] = str(
        folder / environment["GATEWAY_SECRETS_DIR"].lstrip("/")
    )
    arguments = workload.container["args"]
    path = arguments[arguments.index("--config") + 1]
    return examine(folder / path.lstrip("/"), environment)


@pytest.fixture
def settings(overlay: Overlay, tmp_path: Path) -> Settings:
    """What all pods of an overlay load; they are told nothing that they should mend."""
    loaded = [mounted(overlay, each, tmp_path / each.role, secrets()) for each in overlay.workloads]
    assert not [problem for each in loaded for problem in each.problems]
    assert len({repr(each.settings) for each in loaded}) == 1
    assert loaded[0].settings is not None
    return loaded[0].settings


def size(quantity: object) -> float:
    found = QUANTITY.fullmatch(str(quantity))
    assert found, f"{quantity} is no quantity"
    number, unit = found.groups()
    return int(number) / 1000 if unit == "m" else int(number) * UNITS[unit]


def validated(text: str, folder: Path) -> int:
    """Return how many resources the schemas of Kubernetes know and have nothing against."""
    file = folder / "validated.yaml"
    file.write_text(text, "utf-8")
    validate = (sys.executable, "-m", "kubernetes_validate", "--strict", "-k", "1.37", str(file))
    ran = subprocess.run(validate, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return (ran.stdout + ran.stderr).count(" passed for resource ")


def test_the_schemas_of_kubernetes_have_nothing_against_it(
    overlay: Overlay, tmp_path: Path
) -> None:
    assert validated(overlay.text, tmp_path) == len(overlay.resources)


def examples() -> dict[str, str]:
    """Return the documents shown in the README, by kind."""
    blocks = re.findall(r"^ *```yaml\n(.*?)^ *```", README, re.MULTILINE | re.DOTALL)
    documents = [textwrap.dedent(each) for each in blocks]
    return {yaml.safe_load(each)["kind"]: each for each in documents}


@pytest.mark.parametrize("below", OVERLAYS)
def test_the_overlay_shown_in_the_readme_renders_with_its_own_image_and_configuration(
    below: str, tmp_path: Path, needs: Needs
) -> None:
    shutil.copytree(K8S, tmp_path / "k8s")
    folder = tmp_path / "k8s" / "overlays" / "shop"
    folder.mkdir()
    shown = examples()["Kustomization"].replace("../embedded", f"../{below}")
    (folder / "kustomization.yaml").write_text(shown, "utf-8")
    (folder / "gateway.toml").write_text("[sites.mine]\n", "utf-8")
    shop = render("shop", needs("kubectl"), tmp_path / "k8s")
    assert validated(shop.text, tmp_path) == len(shop.resources)
    images = {each.container["image"] for each in shop.workloads}
    assert images == {f"registry.example/gateway:{__version__}"}
    assert "[sites.mine]\n" in [each.get("gateway.toml") for each in shop.config_maps.values()]
    assert {each["metadata"]["namespace"] for each in shop.resources} == {"shop"}


def test_the_ingress_shown_in_the_readme_leads_to_the_service(
    overlay: Overlay, tmp_path: Path
) -> None:
    assert validated(examples()["Ingress"], tmp_path) == 1
    (rule,) = yaml.safe_load(examples()["Ingress"])["spec"]["rules"]
    (service,) = overlay.of("Service")
    for path in rule["http"]["paths"]:
        asked = path["backend"]["service"]
        assert asked["name"] == service["metadata"]["name"]
        assert [asked["port"]["name"]] == [each["name"] for each in service["spec"]["ports"]]


@pytest.mark.parametrize("adapter", [None, *ADAPTERS])
def test_the_ingress_shown_in_the_readme_leads_to_what_the_shown_snippet_names(
    adapter: str | None,
) -> None:
    shown = re.search(r"gateway (snippet --config .*?--no-integrity)", README, re.DOTALL)
    assert shown is not None
    args = shown[1].replace("\\\n", " ").split()
    args[args.index("--config") + 1] = str(K8S / "base" / "gateway.toml")
    more = ["--adapter", adapter] if adapter else []
    printed = CliRunner(env=secrets()).invoke(gateway, [*args, *more])
    assert printed.exit_code == 0, printed.output
    (rule,) = yaml.safe_load(examples()["Ingress"])["spec"]["rules"]
    sources = re.findall(r'src="https://([^/"]+)([^"]+)"', printed.stdout)
    assert sources
    for host, source in sources:
        assert host == rule["host"]
        assert any(is_routed(source, path) for path in rule["http"]["paths"]), source


def is_routed(wanted: str, path: Resource) -> bool:
    if path["pathType"] == "Exact":
        return bool(wanted == path["path"])
    return wanted.startswith(path["path"].rstrip("/") + "/")


def selectors(overlay: Overlay) -> Iterator[tuple[str, dict[str, str]]]:
    for each in overlay.of("Service"):
        yield each["kind"], each["spec"]["selector"]
    for each in overlay.of("PodDisruptionBudget", "Deployment", "StatefulSet"):
        yield each["kind"], each["spec"]["selector"]["matchLabels"]
    for workload in overlay.workloads:
        for spread in workload.pod.get("topologySpreadConstraints", []):
            yield "spread", spread["labelSelector"]["matchLabels"]


def test_each_selector_finds_the_pods_of_exactly_one_workload(overlay: Overlay) -> None:
    for kind, selector in selectors(overlay):
        fitting = [each for each in overlay.workloads if each.fits(selector)]
        assert len(fitting) == 1, (kind, selector)
    assert len({tuple(sorted(each.labels.items())) for each in overlay.workloads}) == len(
        overlay.workloads
    )


def test_traffic_reaches_a_port_that_a_container_opens(overlay: Overlay) -> None:
    (service,) = overlay.of("Service")
    (port,) = service["spec"]["ports"]
    (target,) = [each for each in overlay.workloads if each.fits(service["spec"]["selector"])]
    assert target.ports[port["targetPort"]] == 8080


def test_probes_and_prometheus_ask_the_admin_port(overlay: Overlay) -> None:
    for each in overlay.workloads:
        asked = {
            name: (each.container[name]["httpGet"]["path"], each.container[name]["httpGet"]["port"])
            for name in ("startupProbe", "livenessProbe", "readinessProbe")
        }
        assert asked == {
            "startupProbe": ("/livez", "admin"),
            "livenessProbe": ("/livez", "admin"),
            "readinessProbe": ("/readyz", "admin"),
        }
        scrape = each.template["metadata"]["annotations"]
        assert int(scrape["prometheus.io/port"]) == each.ports["admin"]


def test_names_and_quantities_are_such_as_a_cluster_takes(overlay: Overlay) -> None:
    for each in overlay.resources:
        assert NAME.fullmatch(each["metadata"]["name"]), each["metadata"]["name"]
    for workload in overlay.workloads:
        resources = workload.container["resources"]
        assert size(resources["requests"]["cpu"]) > 0
        assert size(resources["requests"]["memory"]) <= size(resources["limits"]["memory"])
        for volume in workload.pod["volumes"]:
            assert size(volume.get("emptyDir", {}).get("sizeLimit", 0)) >= 0
        for claim in workload.claims.values():
            assert size(claim["resources"]["requests"]["storage"]) > 0


def test_no_container_may_more_than_it_needs(overlay: Overlay) -> None:
    for each in overlay.workloads:
        assert each.container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        pod = each.pod["securityContext"]
        assert pod["runAsNonRoot"]
        assert pod["runAsUser"] == 10001
        assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
        assert each.pod["automountServiceAccountToken"] is False


def test_what_a_pod_mounts_is_there(overlay: Overlay) -> None:
    for each in overlay.workloads:
        volumes = {volume["name"]: volume for volume in each.pod["volumes"]}
        there = {*volumes, *each.claims}
        assert {mount["name"] for mount in each.container["volumeMounts"]} == there
        assert volumes["config"]["configMap"]["name"] in overlay.config_maps
        for source in each.container["envFrom"]:
            assert source["configMapRef"]["name"] in overlay.config_maps
        assert volumes["secrets"]["secret"]["secretName"] == "gateway-secrets"


def test_the_image_is_the_one_of_this_version(overlay: Overlay) -> None:
    assert {each.container["image"] for each in overlay.workloads} == {f"gateway:{__version__}"}


def test_the_gateway_loads_the_mounted_configuration_on_the_ports_that_the_pods_open(
    overlay: Overlay, settings: Settings
) -> None:
    events = {"events": address_of(settings.http.listen).port}
    admin = {"admin": address_of(settings.admin.listen).port}
    for each in overlay.workloads:
        assert each.ports == {**admin, **(events if each.role in {"run", "ingest"} else {})}
    assert address_of(settings.console.listen).is_loopback


def test_the_roles_are_commands_and_fit_the_buffer(overlay: Overlay, settings: Settings) -> None:
    roles = {each.role for each in overlay.workloads}
    assert (settings.buffer.kind, roles) == {
        "embedded": ("sqlite", {"run"}),
        "kafka": ("kafka", {"ingest", "deliver", "console"}),
    }[overlay.name]
    assert roles <= gateway.commands.keys()


@pytest.mark.parametrize("missing", secrets())
def test_the_gateway_misses_each_secret_that_the_example_names(
    overlay: Overlay, tmp_path: Path, settings: Settings, missing: str
) -> None:
    kept = {name: value for name, value in secrets().items() if name != missing}
    without = mounted(overlay, overlay.workloads[0], tmp_path / "without", kept)
    assert without.settings != settings


def test_a_pod_that_ends_has_the_time_that_the_gateway_takes(
    overlay: Overlay, settings: Settings
) -> None:
    needed = settings.admin.drain_seconds + settings.admin.stop_seconds
    for each in overlay.workloads:
        assert each.pod["terminationGracePeriodSeconds"] >= needed + 5


def test_the_windows_and_the_requests_at_once_fit_the_memory(
    overlay: Overlay, settings: Settings
) -> None:
    of_ingest = settings.http.max_in_flight * (2 << 20)
    of_deliver = sum(window_bytes(settings, name) for name in settings.destinations)
    needed = {
        "run": of_ingest + of_deliver,
        "ingest": of_ingest,
        "deliver": of_deliver,
        "console": 0,
    }
    for each in overlay.workloads:
        limit = size(each.container["resources"]["limits"]["memory"])
        assert limit >= needed[each.role] + SIDE_BYTES, each.role


def test_there_are_as_many_pods_as_have_work(overlay: Overlay, settings: Settings) -> None:
    partitions = settings.buffer.partitions if settings.buffer.kind == "kafka" else 1
    replicas = {each.role: each.resource["spec"]["replicas"] for each in overlay.workloads}
    assert replicas.get("deliver", 1) <= partitions
    assert replicas.get("console", 1) == replicas.get("run", 1) == 1


@pytest.mark.parametrize("overlay", ["embedded"], indirect=True)
def test_the_embedded_log_fits_its_volume(overlay: Overlay, settings: Settings) -> None:
    (workload,) = overlay.workloads
    (mount,) = [
        each for each in workload.container["volumeMounts"] if each["name"] in workload.claims
    ]
    assert settings.buffer.kind == "sqlite"
    assert settings.buffer.path.is_relative_to(mount["mountPath"])
    storage = size(workload.claims[mount["name"]]["resources"]["requests"]["storage"])
    assert storage >= settings.buffer.max_bytes * 1.25 + settings.console.index_bytes


@pytest.mark.parametrize("overlay", ["kafka"], indirect=True)
def test_the_console_keeps_its_index_on_a_volume_with_room_for_it(
    overlay: Overlay, settings: Settings
) -> None:
    (console,) = [each for each in overlay.workloads if each.role == "console"]
    places = {each["mountPath"]: each["name"] for each in console.container["volumeMounts"]}
    volumes = {each["name"]: each for each in console.pod["volumes"]}
    index = WORKING_FOLDER / index_path(settings)
    (name,) = [places[place] for place in places if index.is_relative_to(place)]
    room = size(volumes[name]["emptyDir"]["sizeLimit"])
    assert room >= settings.console.index_bytes * 1.5
