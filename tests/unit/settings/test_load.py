"""Every problem of a configuration is told, all at once, with its place and what would be right."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.settings.load import Examined, examine, load
from gateway.settings.problems import ConfigurationError, Problem

SECRET = "s3cret-that-nobody-may-read"  # 27 characters

SHOP = """
[sites.shop]
browser_keys = ["pk_shop"]
origins = ["https://shop.example"]
destinations = ["archive"]
[destinations.archive]
kind = "file"
path = "data/events"
"""


def examined(tmp_path: Path, text: str, environment: Mapping[str, str] | None = None) -> Examined:
    path = tmp_path / "gateway.toml"
    path.write_text(text, "utf-8")
    return examine(path, environment or {})


def only(found: Examined) -> Problem:
    assert len(found.problems) == 1, [str(each) for each in found.problems]
    return found.problems[0]


def at(found: Examined, place: str) -> Problem:
    return next(each for each in found.problems if each.place == place)


def test_without_a_file_the_defaults_of_the_design_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(None, {})
    assert settings.http.listen == "127.0.0.1:8080"
    assert settings.admin.listen == "127.0.0.1:9090"
    assert settings.console.listen == "127.0.0.1:8090"
    assert settings.buffer.kind == "sqlite"
    assert settings.buffer.path == Path("data/buffer.db")
    assert settings.buffer.max_bytes == 20 * 1024**3
    assert settings.buffer.retention_seconds == 604_800
    assert settings.dedup.window_seconds == 86_400
    assert settings.dedup.window_records == 2_400_000
    assert not settings.sites


def test_the_usual_file_is_read_when_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config").mkdir()
    Path("config/gateway.toml").write_text("[dedup]\nwindow_seconds = 60\n")
    assert load(None, {}).dedup.window_seconds == 60


def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    problem = only(examine(tmp_path / "absent.toml", {}))
    assert problem.place.endswith("absent.toml")
    assert problem.message == "No such file or directory"


def test_what_is_no_toml_is_told_with_its_line(tmp_path: Path) -> None:
    problem = only(examined(tmp_path, '[http]\nlisten = "127.0.0.1:8080\n'))
    assert problem.place.endswith("gateway.toml:2")
    assert problem.message == "is not TOML"


def test_what_is_no_text_is_told(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_bytes(b"\xff\xfe[http]")
    assert only(examine(path, {})).message == "is not UTF-8"


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_bytes(b"\xef\xbb\xbf[dedup]\nwindow_seconds = 60\n")
    assert load(path, {}).dedup.window_seconds == 60


def test_an_unknown_setting_is_refused_and_the_nearest_one_named(tmp_path: Path) -> None:
    problem = only(examined(tmp_path, '[http]\nlistn = "127.0.0.1:8080"\n'))
    assert problem.place == "http.listn"
    assert problem.source.endswith("gateway.toml:2")
    assert problem.message == "is no setting"
    assert problem.remedy == "did you mean listen?"


def test_an_unknown_setting_of_a_destination_is_looked_up_among_those_of_its_kind(
    tmp_path: Path,
) -> None:
    problem = only(examined(tmp_path, SHOP + "rotate_byte = 1\n"))
    assert problem.place == "destinations.archive.rotate_byte"
    assert problem.remedy == "did you mean rotate_bytes?"


def test_an_unknown_section_is_refused_and_the_known_ones_named(tmp_path: Path) -> None:
    problem = only(examined(tmp_path, "[webhooks]\n"))
    assert problem.place == "webhooks"
    assert "destinations" in problem.remedy


def test_a_missing_setting_is_told_with_the_table_and_the_variable_that_take_it(
    tmp_path: Path,
) -> None:
    problem = only(examined(tmp_path, SHOP.replace('path = "data/events"', "")))
    assert problem.place == "destinations.archive.path"
    assert problem.source.endswith("gateway.toml:6")
    assert problem.message == "is missing"
    assert "[destinations.archive]" in problem.remedy
    assert "GATEWAY_DESTINATIONS__ARCHIVE__PATH" in problem.remedy


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    found = examined(
        tmp_path,
        """
[http]
listen = "8080"
[dedup]
window_seconds = -1
[buffer]
kind = "rabbitmq"
[sites.shop]
browser_keys = ["pk"]
origins = ["shop.example/"]
destinations = ["nowhere"]
[sites.other]
browser_keys = ["pk"]
origins = ["https://other.example"]
currency = "kronor"
[destinations.voyado]
kind = "voyado"
base_url = "client.voyado.com"
[destinations.hook]
kind = "webhook"
[destinations.nameless]
""",
        {"GATEWAY_ADMIN__LISTN": "x"},
    )
    assert found.settings is None
    assert {each.place for each in found.errors} == {
        "http.listen",
        "admin.listn",
        "buffer",
        "dedup.window_seconds",
        "sites.shop.origins.0",
        "sites.shop.destinations",
        "sites.other.currency",
        "sites.other.browser_keys",
        "destinations.voyado.base_url",
        "destinations.voyado.api_key",
        "destinations.hook.url",
        "destinations.hook.secrets",
        "destinations.nameless",
    }
    assert all(each.source and each.message and each.remedy for each in found.errors)
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path / "gateway.toml", {})
    assert len(caught.value.problems) == 12  # without the variable


def test_a_webhooks_wrong_secret_and_address_are_told_without_the_secret(tmp_path: Path) -> None:
    found = examined(
        tmp_path,
        '[destinations.hook]\nkind = "webhook"\nurl = "http://h.example"\nsecrets = ["whsec_s3cr"]',
    )
    assert any("openssl rand -base64 32" in each.remedy for each in found.errors)
    found_too = examined(
        tmp_path,
        '[destinations.hook]\nkind = "webhook"\nurl = "http://10.0.0.1"\n'
        'secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]',
    )
    assert any("allow_private_addresses" in each.remedy for each in found_too.errors)
    assert not any("s3cr" in str(each) for each in (*found.problems, *found_too.problems))


def test_a_wrong_number_is_shown(tmp_path: Path) -> None:
    problem = only(examined(tmp_path, "[buffer]\nmax_bytes = 5\n"))
    assert problem.message == "is 5"
    assert problem.remedy.startswith("should be greater than or equal to 1048576")


def test_a_wrong_choice_is_shown_with_the_right_ones(tmp_path: Path) -> None:
    problem = only(examined(tmp_path, SHOP + 'start = "end"\n'))
    assert problem.message == "is 'end'"
    assert "'beginning' or 'now'" in problem.remedy


def test_a_malformed_origin_is_told_how_browsers_send_it(tmp_path: Path) -> None:
    problem = only(examined(tmp_path, SHOP.replace("https://shop.example", "shop.example")))
    assert problem.place == "sites.shop.origins.0"
    assert "https://shop.example" in problem.remedy


def test_no_secret_is_shown_however_wrong_it_is(tmp_path: Path) -> None:
    found = examined(
        tmp_path,
        SHOP.replace(
            "[destinations.archive]", f'server_keys = [{{a = "{SECRET}"}}]\n[destinations.archive]'
        )
        + f"""
[console]
listen = "0.0.0.0:8090"
token = "{SECRET[:5]}"
[destinations.voyado]
kind = "voyado"
base_url = "https://user:{SECRET}@host.example/?q"
api_key = "{SECRET}\\u0007"
apikey = "{SECRET}"
eclub_key = "{SECRET}"
[destinations.dub]
kind = "dub"
api_key = 987654321987
""",
        {"GATEWAY_DESTINATIONS__OTHER__API_KEY": SECRET},
    )
    assert len(found.errors) >= 7
    text = "\n".join(map(repr, found.problems)) + str(ConfigurationError(found.errors))
    assert SECRET[:5] not in text
    assert "9876" not in text


def test_valid_secrets_are_not_shown_by_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(SHOP.replace("[destinations", f'server_keys = ["{SECRET}"]\n[destinations', 1))
    assert SECRET not in repr(load(path, {}))


def test_a_broken_entry_hides_no_problem_of_another(tmp_path: Path) -> None:
    found = examined(
        tmp_path,
        SHOP.replace('"archive"]', '"archive", "gone"]') + 'start = "never"\n',
    )
    assert {each.place for each in found.errors} == {
        "sites.shop.destinations",
        "destinations.archive.start",
    }


def test_names_that_could_not_be_labels_are_refused(tmp_path: Path) -> None:
    problem = only(
        examined(tmp_path, '[sites."my shop"]\nbrowser_keys = ["a"]\norigins = ["https://a.b"]')
    )
    assert problem.place == "sites.my shop"
    assert "letters" in problem.remedy


def test_a_value_where_a_table_belongs_is_one_problem(tmp_path: Path) -> None:
    assert only(examined(tmp_path, "http = 3\n")).place == "http"


def test_a_problem_of_kafka_is_told_without_what_the_union_adds(tmp_path: Path) -> None:
    text = '[buffer]\nkind = "kafka"\n'
    problem = only(examined(tmp_path, text + 'servers = ["kafka"]\n'))
    assert problem.place == "buffer.servers.0"
    assert "kafka:9092" in problem.remedy
    problem = only(examined(tmp_path, text + "partition = 12\n"))
    assert (problem.place, problem.remedy) == ("buffer.partition", "did you mean partitions?")
    problem = only(examined(tmp_path, text + 'sasl_mechanism = "PLAIN"\n'))
    assert problem.place == "buffer"
    assert "go together" in problem.remedy


def test_a_buffer_that_names_no_kind_is_the_embedded_log(tmp_path: Path) -> None:
    problem = only(examined(tmp_path, "[buffer]\npth = 'x'\n"))
    assert (problem.place, problem.remedy) == ("buffer.pth", "did you mean path?")
