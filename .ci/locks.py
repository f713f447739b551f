"""The lock files: `make` writes them from pyproject.toml, `check` says whether they still fit it.

`check` needs no network: the first line of each lock holds a digest of the requirements that it
was made from. Both files are for every platform and every Python that the project supports.
"""

import hashlib
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TEST_LOCK = ROOT / "requirements-test.txt"
RUN_TIME_LOCK = ROOT / "requirements.txt"
PIN = re.compile(r"^(?P<name>[a-z0-9-]+)==(?P<version>[^ ;\\]+)")
ADDRESS = re.compile(r"\w+://|--(extra-)?index-url|--find-links|--trusted-host|(^| )-[if] ")


def digest() -> str:
    """Return what pyproject.toml asks for, as a short text that changes when it does."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    asked = [
        project["project"]["requires-python"],
        sorted(project["project"]["dependencies"]),
        sorted(project["dependency-groups"]["dev"]),
    ]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def header() -> str:
    """Return the first line of both lock files."""
    return f"# Made by `make lock` from pyproject.toml; its requirements: sha256 {digest()}"


def compile_lock(uv: str, lock: Path, *options: str) -> None:
    """Write one lock. Versions already in it stay, unless pyproject.toml rules them out."""
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / lock.name
        if lock.exists():
            made.write_text(lock.read_text("utf-8"), "utf-8")
        subprocess.run(
            [
                *(uv, "pip", "compile", "--quiet", "pyproject.toml", "--output-file", str(made)),
                *("--universal", "--python-version", "3.11", "--generate-hashes"),
                *("--no-header", "--no-annotate", "--no-emit-index-url", *options),
            ],
            cwd=ROOT,
            check=True,
        )
        lock.write_text(f"{header()}\n{made.read_text('utf-8')}", "utf-8")


def make(uv: str, *options: str) -> None:
    """Write both locks; the second takes its versions from the first."""
    compile_lock(uv, TEST_LOCK, "--group", "dev", *options)
    compile_lock(uv, RUN_TIME_LOCK, "--constraint", str(TEST_LOCK), *options)


def pins(lock: Path) -> dict[str, str]:
    """Return the version of each package in a lock."""
    found = map(PIN.match, lock.read_text("utf-8").splitlines())
    return {pin["name"]: pin["version"] for pin in found if pin}


def problems() -> list[str]:
    """Everything that is wrong with the lock files, in sentences."""
    wrong = []
    for lock in (RUN_TIME_LOCK, TEST_LOCK):
        lines = lock.read_text("utf-8").splitlines()
        if lines[0] != header():
            wrong.append(f"{lock.name} was not made from this pyproject.toml: run `make lock`")
        for number, line in enumerate(lines, 1):
            if ADDRESS.search(line):
                wrong.append(f"{lock.name}:{number} holds an address of an index")
            if PIN.match(line) and not line.endswith("\\"):
                wrong.append(f"{lock.name}:{number} has no hash")
    if not pins(RUN_TIME_LOCK).items() <= pins(TEST_LOCK).items():
        wrong.append("the tests would run on other versions than users do: run `make lock`")
    return wrong


def main() -> int:
    """Carry out `make UV [OPTION…]` or `check`; the result is the exit status."""
    match sys.argv[1:]:
        case ["make", uv, *options]:
            make(uv, *options)
        case ["check"]:
            pass
        case _:
            print(__doc__, file=sys.stderr)
            return 2
    wrong = problems()
    print("\n".join(wrong) or "Both lock files fit pyproject.toml.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
