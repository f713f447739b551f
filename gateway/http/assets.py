"""Where the files are that ship with the gateway but are not Python."""

from importlib.resources import files
from pathlib import Path
from typing import Literal


def data_folder(name: Literal["static", "config"]) -> Path:
    """Return the folder of that name: the installed package's copy, else the checkout's own.

    The copy is made by the build (pyproject.toml, `tool.hatch.build.targets.wheel.sources`).
    Raises FileNotFoundError when there is neither, which says that the installation is broken.
    """
    package = Path(str(files("gateway")))
    for folder in (package / "_data" / name, package.parent / name):
        if folder.is_dir():
            return folder
    message = f"this installation of the gateway lacks its {name} folder: install it again"
    raise FileNotFoundError(message)
