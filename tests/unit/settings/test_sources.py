"""Where values come from: the environment wins over secrets, both over the file."""

from pathlib import Path

import pytest

from gateway.adapters.destinations.voyado import VoyadoSettings
from gateway.settings.lines import lines_of
from gateway.settings.load import examine, load

FILE = """
[sites.my-shop]
browser_keys = ["pk_shop"]
origins = ["https://shop.example"]
destinations = ["voyado"]
[destinations.voyado]
kind = "voyado"
base_url = "https://client.voyado.com"
api_key = "of-the-file"
"""


def written(tmp_path: Path) -> Path:
    path = tmp_path / "gateway.toml"
    path.write_text(FILE)
    return path


def voyado(path: Path, environment: dict[str, str]) -> VoyadoSettings:
    found = load(path, environment).destinations["voyado"]
    assert isinstance(found, VoyadoSettings)
    return found


def test_a_variable_overrides_the_file(tmp_path: Path) -> None:
    found = voyado(written(tmp_path), {"GATEWAY_DESTINATIONS__VOYADO__TIMEOUT_SECONDS": "2.5"})
    assert found.timeout_seconds == 2.5


def test_a_secret_of_digits_alone_stays_text(tmp_path: Path) -> None:
    found = voyado(written(tmp_path), {"GATEWAY_DESTINATIONS__VOYADO__API_KEY": "0123"})
    assert found.api_key.get_secret_value() == "0123"


def test_lists_and_tables_are_written_as_json(tmp_path: Path) -> None:
    environment = {
        "GATEWAY_SITES__MY_SHOP__ORIGINS": '["https://a.example", "https://b.example"]',
        "GATEWAY_DESTINATIONS__VOYADO__LANGUAGES": '{"sv": "sv-SE"}',
    }
    settings = load(written(tmp_path), environment)
    assert settings.sites["my-shop"].origins == ("https://a.example", "https://b.example")
    assert voyado(written(tmp_path), environment).languages == {"sv": "sv-SE"}


def test_a_destination_can_be_made_of_variables_alone() -> None:
    environment = {
        "GATEWAY_DESTINATIONS__ARCHIVE__KIND": "file",
        "GATEWAY_DESTINATIONS__ARCHIVE__PATH": "data/events",
    }
    assert "archive" in load(None, environment).destinations


def test_a_wrong_variable_is_told_by_its_name(tmp_path: Path) -> None:
    found = examine(written(tmp_path), {"GATEWAY_DEDUP__WINDOW_SECONDS": "a day"})
    assert [each.source for each in found.errors] == ["GATEWAY_DEDUP__WINDOW_SECONDS"]


@pytest.mark.parametrize(
    ("name", "value", "right"),
    [
        ("GATEWAY_SITES__SHOP__ORIGINS", "https://a.example", '["one", "two"]'),
        ("GATEWAY_DESTINATIONS__VOYADO__LANGUAGES", "sv", '{"name": "value"}'),
        ("GATEWAY_SITES__SHOP", "x", "a table of settings"),
    ],
)
def test_how_lists_and_tables_are_written_is_told(
    tmp_path: Path, name: str, value: str, right: str
) -> None:
    (problem,) = examine(written(tmp_path), {name: value}).errors
    assert problem.source == name
    assert right in problem.remedy


def test_a_variable_of_no_setting_is_refused(tmp_path: Path) -> None:
    found = examine(written(tmp_path), {"GATEWAY_BUFER__KIND": "sqlite"})
    assert [each.remedy for each in found.errors] == ["did you mean buffer?"]


def test_a_variable_below_a_value_is_told(tmp_path: Path) -> None:
    found = examine(written(tmp_path), {"GATEWAY_DESTINATIONS__VOYADO__KIND__X": "1"})
    assert [each.place for each in found.errors] == ["destinations.voyado.kind"]


def test_variables_that_kubernetes_adds_for_a_service_are_not_ours(tmp_path: Path) -> None:
    environment = {"GATEWAY_PORT": "tcp://10.0.0.1:80", "GATEWAY_SERVICE_HOST": "10.0.0.1"}
    environment["GATEWAY_CONSOLE_SERVICE_PORT"] = environment["GATEWAY_CONSOLE_PORT"] = "80"
    assert not examine(written(tmp_path), environment).problems


def test_a_variable_with_one_underscore_too_few_is_told(tmp_path: Path) -> None:
    found = examine(written(tmp_path), {"GATEWAY_BUFFER_KIND": "kafka", "GATEWAY_SITES": "{}"})
    assert [(each.place, each.remedy.split()[-1]) for each in found.warnings] == [
        ("GATEWAY_BUFFER_KIND", "GATEWAY_BUFFER__KIND"),
        ("GATEWAY_SITES", "GATEWAY_SITES__NAME"),
    ]
    assert not found.errors


def test_a_file_of_the_secrets_folder_overrides_the_file_and_a_variable_overrides_both(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    name = "GATEWAY_DESTINATIONS__VOYADO__API_KEY"
    (folder / name).write_text("of-the-secret\n")
    (folder / "..data").mkdir()
    (folder / "tls.crt").write_text("not ours")
    environment = {"GATEWAY_SECRETS_DIR": str(folder)}
    found = voyado(written(tmp_path), environment)
    assert found.api_key.get_secret_value() == "of-the-secret"
    found = voyado(written(tmp_path), {**environment, name: "of-the-variable"})
    assert found.api_key.get_secret_value() == "of-the-variable"


def test_a_secrets_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    found = examine(written(tmp_path), {"GATEWAY_SECRETS_DIR": str(tmp_path / "gone")})
    assert [each.place for each in found.errors] == [str(tmp_path / "gone")]


def test_a_secret_that_is_no_text_is_told_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "gateway_console__token").write_bytes(b"\xff\xff")
    found = examine(None, {"GATEWAY_SECRETS_DIR": str(tmp_path)})
    assert [each.message for each in found.errors] == ["cannot be read"]


def test_lines_are_found_through_comments_tables_quotes_and_long_strings() -> None:
    text = '''# [http]
[http]
# listen = 1
listen = "a"
"odd key".x = 1
[[list]]
[sites."my shop"]
note = """
[admin]
listen = 2
"""
  currency = "sek"
'''
    lines = lines_of(text)
    assert lines["http",] == 2
    assert lines["http", "listen"] == 4
    assert lines["http", "odd key", "x"] == 5
    assert lines["list",] == 6
    assert lines["sites", "my shop", "currency"] == 12
    assert ("admin",) not in lines
