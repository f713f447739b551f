from pathlib import Path

import pytest

from gateway.http import assets


def test_a_checkout_uses_its_own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gateway").mkdir()
    (tmp_path / "config").mkdir()
    monkeypatch.setattr(assets, "files", lambda _: tmp_path / "gateway")
    assert assets.data_folder("config") == tmp_path / "config"


def test_an_installed_package_uses_its_copy_whatever_lies_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "gateway" / "_data" / "static"
    copy.mkdir(parents=True)
    (tmp_path / "static").mkdir()
    monkeypatch.setattr(assets, "files", lambda _: tmp_path / "gateway")
    assert assets.data_folder("static") == copy


def test_a_broken_installation_is_told_plainly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(assets, "files", lambda _: tmp_path / "gateway")
    with pytest.raises(FileNotFoundError, match="lacks its static folder: install it again"):
        assets.data_folder("static")
