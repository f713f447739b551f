"""`config/reference.toml` names every setting, with its real default; both files load."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from pydantic import BaseModel

from gateway.adapters.kafka.settings import KafkaSettings
from gateway.adapters.postgrid.settings import PostgridSettings
from gateway.adapters.sqlite.settings import SqliteSettings
from gateway.http.assets import data_folder
from gateway.ingest import SiteSettings
from gateway.settings.load import examine
from gateway.settings.sections import AnyDestination, Settings

REFERENCE = data_folder("config") / "reference.toml"
OF_THE_VERSION = {"user_agent"}
"""Defaults that differ from version to version: shown as a comment."""


def tables() -> Iterator[tuple[str, type[BaseModel]]]:
    yield "buffer", SqliteSettings
    for name, field in Settings.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield name, field.annotation
    yield "sites.shop", SiteSettings
    for model in get_args(AnyDestination):
        (kind,) = get_args(model.model_fields["kind"].annotation)
        yield f"destinations.{'archive' if kind == 'file' else kind}", model
    yield "sources.mail", PostgridSettings


TABLES = tuple(tables())


def section(table: str) -> str:
    text = REFERENCE.read_text("utf-8")
    found = re.search(rf"^\[{re.escape(table)}\]$(.*?)(?=^\[|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"[{table}] is not there"
    return found[1]


def value_at(place: tuple[str, ...]) -> Any:
    found: Any = examine(REFERENCE, {}).settings
    for part in place:
        found = found[part] if isinstance(found, dict) else getattr(found, part)
    return found


@pytest.mark.parametrize(("table", "model"), TABLES, ids=str)
def test_every_setting_is_named_and_explained(table: str, model: type[BaseModel]) -> None:
    text = section(table)
    missing = [
        name
        for name in model.model_fields
        if not re.search(rf"^(# )?{name} = ", text, re.MULTILINE)
    ]
    assert not missing


@pytest.mark.parametrize(("table", "model"), TABLES, ids=str)
def test_every_default_stated_is_the_real_one(table: str, model: type[BaseModel]) -> None:
    given = tomllib.loads(section(table))
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if name in given:
            is_example = field.is_required() or default in (None, (), {})
            assert is_example or value_at((*table.split("."), name)) == default, name
        else:
            assert default is None or name in OF_THE_VERSION, name


@pytest.mark.parametrize("name", ["minimal.toml", "reference.toml"])
def test_both_files_load(name: str) -> None:
    found = examine(data_folder("config") / name, {})
    assert not found.errors


def test_the_settings_shown_as_comments_are_right_too(tmp_path: Path) -> None:
    text = re.sub(r"^# ([a-z_]+ = )", r"\1", REFERENCE.read_text("utf-8"), flags=re.MULTILINE)
    path = tmp_path / "all.toml"
    path.write_text(text, "utf-8")
    assert not examine(path, {}).errors


def kafka(*, optional: bool) -> str:
    """The [buffer] in comments, as it is when they are removed."""
    text = REFERENCE.read_text("utf-8")
    found = re.search(r"^#\[buffer\]$.*?(?=^$)", text, re.MULTILINE | re.DOTALL)
    assert found
    text = re.sub("^#", "", found[0], flags=re.MULTILINE)
    return re.sub("^#(?! )", "", text, flags=re.MULTILINE) if optional else text


def test_kafka_is_explained_with_its_real_defaults(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(kafka(optional=False), "utf-8")
    assert examine(path, {}).settings == Settings(buffer=KafkaSettings(kind="kafka"))
    shown = set(tomllib.loads(kafka(optional=False))["buffer"])
    without = {name for name, each in KafkaSettings.model_fields.items() if each.default is None}
    assert shown == set(KafkaSettings.model_fields) - without


def test_every_setting_of_kafka_is_named(tmp_path: Path) -> None:
    text = kafka(optional=True).replace("tls = false", "tls = true")
    path = tmp_path / "gateway.toml"
    path.write_text(text, "utf-8")
    assert not examine(path, {}).errors
    assert set(tomllib.loads(text)["buffer"]) == set(KafkaSettings.model_fields)
