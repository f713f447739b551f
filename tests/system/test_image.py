"""The image: built from the Dockerfile, run as an operator would, without a container daemon.

Images are kept in `.cache/containers`, so only the first run makes the base image (half a minute),
out of Debian's packages: it stands in for the one that the Dockerfile names.
"""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE, STDOUT

import pytest
from aiohttp import ClientError, ClientSession

from gateway import __version__
from gateway.adapters.clock import SystemClock
from gateway.model.instant import format_ms
from tests.gateways import eventually, free_port

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(400),
    pytest.mark.usefixtures("root"),
]

ROOT = Path(__file__).parent.parent.parent
STORE = ROOT / ".cache" / "containers"
BASE = "docker.io/library/python:3.11-slim-bookworm"
PACKAGES = "python3,python3-pip,python3-venv,ca-certificates"
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
PIP_NETWORK = {"index-url", "extra-index-url", "trusted-host", "proxy"}
STORING = ("--storage-driver=overlay", f"--root={STORE}/images", f"--runroot={STORE}/run")

Needs = Callable[[str], str]


@dataclass(frozen=True)
class Image:
    """What was built, and what runs it."""

    name: str
    podman: tuple[str, ...]


def call(*command: str) -> str:
    """Return what the command printed; anything but exit status 0 fails the test."""
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def image(needs: Needs, tmp_path_factory: pytest.TempPathFactory) -> Image:
    buildah, podman, runc = (needs(each) for each in ("buildah", "podman", "runc"))
    folder = tmp_path_factory.mktemp("image")
    call(buildah, *STORING, "version")
    if BASE not in call(buildah, *STORING, "images", "--format", "{{.Name}}:{{.Tag}}"):
        make_base(buildah, needs("mmdebstrap"), folder)
    settings, certificates = pip_settings(folder)
    name = f"localhost/gateway:{__version__}"
    call(
        *(buildah, *STORING, "bud", "--pull-never", "--network=host", "--isolation=chroot"),
        *("--layers", "--format=docker", f"--volume={certificates}:{CERTIFICATES}:ro"),
        *(f"--secret=id=pip.conf,src={settings}", "--tag", name, "."),
    )
    running = ("--cgroup-manager=cgroupfs", f"--runtime={runc}", f"--tmpdir={STORE}/podman")
    return Image(name, (podman, *STORING, *running))


def make_base(buildah: str, mmdebstrap: str, folder: Path) -> None:
    """Make the base image, under the name by which the Dockerfile asks for it."""
    tar = folder / "base.tar"
    call(mmdebstrap, "--quiet", "--variant=minbase", f"--include={PACKAGES}", "bookworm", str(tar))
    container = call(buildah, *STORING, "from", "scratch").strip()
    call(buildah, *STORING, "add", "--quiet", container, str(tar), "/")
    call(buildah, *STORING, "commit", "--quiet", "--rm", container, BASE)
    tar.unlink()


def pip_settings(folder: Path) -> tuple[Path, str]:
    """Return how pip reaches its index on this machine: its settings, as a file; certificates."""
    lines = call(sys.executable, "-m", "pip", "config", "list").splitlines()
    found = {}
    for line in lines:
        name, _, value = line.partition("=")
        found[name.rpartition(".")[2]] = value.strip("'\"")
    kept = {name: value for name, value in found.items() if name in PIP_NETWORK}
    file = folder / "pip.conf"
    options = [f"{name} = {value}" for name, value in {**kept, "cert": CERTIFICATES}.items()]
    file.write_text("\n".join(["[global]", *options, ""]), "utf-8")
    return file, found.get("cert", CERTIFICATES)


@dataclass
class Container:
    """A gateway in a container on its own volume, as locked up as the image allows."""

    image: Image
    folder: Path
    public: int = field(default_factory=free_port)
    admin: int = field(default_factory=free_port)

    @property
    def name(self) -> str:
        return f"gateway-{self.public}"

    def configure(self) -> None:
        self.folder.chmod(0o755)  # its reader is another user
        (self.folder / "gateway.toml").write_text(
            f"""
            [http]
            listen = "127.0.0.1:{self.public}"
            [admin]
            listen = "127.0.0.1:{self.admin}"
            drain_seconds = 0
            [console]
            listen = "127.0.0.1:{free_port()}"
            [buffer]
            path = "buffer.db"
            [sites.shop]
            server_keys = ["sk_shop_0123456789abcdef"]
            destinations = ["archive"]
            [destinations.archive]
            kind = "file"
            path = "events"
            batch_seconds = 0.1
            """,
            "utf-8",
        )

    async def podman(self, *arguments: str) -> tuple[int, str]:
        process = await asyncio.create_subprocess_exec(
            *self.image.podman, *arguments, stdout=PIPE, stderr=STDOUT
        )
        said, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, said.decode()

    async def start(self) -> None:
        """Run a new container on the volume, and wait until it is ready."""
        status, said = await self.podman(
            *("run", "--detach", "--pull=never", "--network=host", "--name", self.name),
            *("--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096", "--memory=512m"),
            *("--read-only", "--read-only-tmpfs=false", "--cap-drop=ALL"),
            *("--security-opt=no-new-privileges", f"--volume={self.folder}:/etc/gateway:ro"),
            *(f"--volume={self.name}:/var/lib/gateway", self.image.name),
        )
        assert status == 0, said
        try:
            await eventually(self._is_ready, 30, f"{self.name} is ready")
        except AssertionError as error:
            _, log = await self.podman("logs", self.name)
            raise AssertionError(f"{error}; its log:\n{log}") from None

    async def stop(self) -> tuple[int, str]:
        """SIGTERM, and SIGKILL after half a minute; return the exit status and what it logged."""
        await self.podman("stop", "--time=30", self.name)
        _, status = await self.podman("inspect", "--format={{.State.ExitCode}}", self.name)
        _, log = await self.podman("logs", self.name)
        await self.podman("rm", self.name)
        return int(status), log

    async def inside(self, *command: str) -> tuple[int, str]:
        return await self.podman("exec", self.name, *command)

    async def post(self, *ids: str) -> list[str]:
        """Post a page for each id; return what was said of it."""
        now = format_ms(SystemClock().now_ms())
        events = [{"type": "page", "id": each, "time": now} for each in ids]
        async with (
            ClientSession(headers={"Authorization": "Bearer sk_shop_0123456789abcdef"}) as session,
            session.post(
                f"http://127.0.0.1:{self.public}/v1/events", json={"sentAt": now, "events": events}
            ) as answer,
        ):
            return [each["outcome"] for each in (await answer.json())["results"]]

    async def until_delivered(self, event: str) -> None:
        """Wait until the log says so, asked as operators do."""
        trace = ("gateway", "trace", event, "--config", "/etc/gateway/gateway.toml")

        async def told() -> bool:
            status, said = await self.inside(*trace)
            return status == 0 and "delivered" in said

        await eventually(told, 20, f"{event} is delivered")

    async def delivered(self) -> list[str]:
        """Return the ids in the files of the destination."""
        _, text = await self.inside("sh", "-c", "cat events/*")
        lines = [line for line in text.splitlines() if line.startswith("{")]
        return sorted(json.loads(line)["id"] for line in lines)

    async def _is_ready(self) -> bool:
        try:
            async with (
                ClientSession() as session,
                session.get(f"http://127.0.0.1:{self.admin}/readyz") as answer,
            ):
                return answer.status == 200
        except (ClientError, OSError):
            return False


@pytest.fixture
async def container(image: Image, tmp_path: Path) -> AsyncIterator[Container]:
    made = Container(image, tmp_path)
    made.configure()
    yield made
    await made.podman("rm", "--force", "--ignore", made.name)
    await made.podman("volume", "rm", "--force", made.name)


async def test_it_takes_events_ends_on_sigterm_and_goes_on_where_it_was_on_the_same_volume(
    container: Container,
) -> None:
    await container.start()
    assert await container.post("page-1") == ["accepted"]
    await container.until_delivered("page-1")
    status, log = await container.stop()
    assert status == 0, log
    assert "stopped; every position is kept" in log

    await container.start()
    assert (await container.post("page-1", "page-2"))[1] == "accepted"
    await container.until_delivered("page-2")
    assert await container.delivered() == ["page-1", "page-2"]
    assert (await container.stop())[0] == 0


async def test_the_log_can_be_copied_as_the_readme_says_while_it_is_in_use(
    container: Container,
) -> None:
    readme = (ROOT / "k8s" / "README.md").read_text("utf-8")
    (code,) = re.findall(r"/opt/gateway/bin/python -c '(.*)'$", readme, re.MULTILINE)
    await container.start()
    assert await container.post("page-1") == ["accepted"]
    await container.until_delivered("page-1")
    assert await container.inside("/opt/gateway/bin/python", "-c", code) == (0, "")
    swap = "rm buffer* && mv copy.db buffer.db"
    assert await container.inside("sh", "-c", swap) == (0, "")
    await container.stop()
    await container.start()
    await container.post("page-1", "page-2")
    await container.until_delivered("page-2")
    assert await container.delivered() == ["page-1", "page-2"]  # it knew of the first one


async def test_it_checks_the_manifests_configuration_with_the_secrets_in_variables(
    container: Container,
) -> None:
    k8s, inside = ROOT / "k8s", "/etc/gateway/gateway.toml"
    status, said = await container.podman(
        *("run", "--rm", "--pull=never", "--network=host"),
        *("--ulimit=nofile=4096:4096", "--ulimit=nproc=4096:4096"),
        *("--env-file", f"{k8s}/secrets.example.env"),
        *("--volume", f"{k8s}/base/gateway.toml:{inside}:ro"),
        *(container.image.name, "check", "--config", inside),
    )
    assert status == 0, said
    assert "site shop: 1 browser and 1 server key(s)" in said
    assert "warning" not in said


async def test_it_runs_without_privilege_and_writes_to_its_volume_alone(
    container: Container,
) -> None:
    await container.start()
    assert (await container.inside("id", "-u"))[1].strip() == "10001"
    assert (await container.inside("gateway", "--version"))[1].strip() == f"gateway {__version__}"
    for place in ("/opt/gateway/app/x", "/tmp/x", "/etc/x"):  # noqa: S108 - must be refused
        status, said = await container.inside("touch", place)
        assert (status, "Read-only" in said) == (1, True), said
    assert (await container.inside("touch", "/var/lib/gateway/x"))[0] == 0


async def test_it_holds_nothing_of_the_machine_that_built_it(container: Container) -> None:
    await container.start()
    for left_out in ("/etc/pip.conf", "/opt/gateway/bin/pip", "/opt/gateway/app/static/.npmrc"):
        assert (await container.inside("test", "-e", left_out))[0] == 1, left_out
    assert (await container.inside("test", "-e", "/opt/gateway/app/static/dist"))[0] == 0
    _, told = await container.podman("image", "inspect", container.image.name)
    (described,) = json.loads(told)
    assert described["Config"]["User"] == "10001:10001"
    assert "http" not in "".join(each["created_by"] for each in described["History"])
