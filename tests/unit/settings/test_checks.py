"""What only the whole configuration shows."""

from pathlib import Path

import pytest

from gateway.settings.checks import facts, hand_over_seconds
from gateway.settings.load import Examined, examine, load

DESTINATIONS = """
[destinations.archive]
kind = "file"
path = "data/events"
"""
SITE = """
[sites.shop]
browser_keys = ["pk_shop"]
origins = ["https://shop.example"]
destinations = ["archive"]
"""


def examined(tmp_path: Path, text: str) -> Examined:
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    return examine(path, {})


MAIL = """
[sources.mail]
kind = "postgrid"
site = "shop"
api_key = "test_sk_example"
webhook_secrets = ["webhook_secret_0123456789"]
"""


def test_a_source_without_problems_is_taken_with_its_defaults(tmp_path: Path) -> None:
    found = examined(tmp_path, SITE + DESTINATIONS + MAIL)
    assert not found.problems
    assert found.settings is not None
    source = found.settings.sources["mail"]
    assert source.base_url == "https://api.postgrid.com"
    assert source.ids["customerId"] == "metadata.customerId"
    assert source.trackers == ()


@pytest.mark.parametrize(
    ("change", "place", "words", "severity"),
    [
        (('site = "shop"', 'site = "other"'), "site", "use one of those there are: shop", "error"),
        (('["webhook_secret_0123456789"]', "[]\npoll_seconds = 0"), "", "nothing comes", "warning"),
        (("webhook_secrets", "webhook_age_seconds = 60\nwebhook_secrets"), "webhook_age_seconds",
         "28800", "warning"),
        (("_0123456789", ""), "webhook_secrets.0", "at least 20", "error"),
        (('"postgrid"', '"mailchimp"'), "kind", "postgrid", "error"),
        (('site = "shop"', 'site = "shop"\ntrackers = ["x"]'), "trackers.0", "tracker_", "error"),
        (('site = "shop"', 'site = "shop"\nids = {customerId = "to.email"}'), "ids.customerId",
         "metadata.customerId", "error"),
        (('site = "shop"', 'site = "shop"\npol_seconds = 5'), "pol_seconds", "poll_seconds",
         "error"),
        (('api_key = "test_sk_example"', ""), "api_key", "GATEWAY_SOURCES__MAIL__API_KEY", "error"),
    ],
    ids=lambda each: str(each)[:40],
)  # fmt: skip
def test_what_is_wrong_with_a_source_is_told_with_its_remedy(
    tmp_path: Path, change: tuple[str, str], place: str, words: str, severity: str
) -> None:
    (problem,) = examined(tmp_path, SITE + DESTINATIONS + MAIL.replace(*change)).problems
    assert problem.place == f"sources.mail.{place}".rstrip(".")
    assert words in str(problem)
    assert problem.severity == severity
    assert "0123456789" not in str(problem)


def test_a_sound_configuration_has_no_problem(tmp_path: Path) -> None:
    assert not examined(tmp_path, SITE + DESTINATIONS).problems


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (SITE, "sites.shop.destinations", '"archive", which is no destination'),
        (
            SITE.replace('["archive"]', '["archive", "archive"]') + DESTINATIONS,
            "sites.shop.destinations",
            "twice",
        ),
        (
            SITE + SITE.replace("shop]", "other]") + DESTINATIONS,
            "sites.other.browser_keys",
            '"pk_shop" that [sites.shop] has too',
        ),
        (
            SITE.replace('["pk_shop"]', '["pk_shop", "pk_shop"]') + DESTINATIONS,
            "sites.shop.browser_keys",
            "stands there twice",
        ),
        (
            SITE + 'server_keys = ["pk_shop"]\nbrowser_events = ["page"]\n' + DESTINATIONS,
            "sites.shop.server_keys",
            "browser key too",
        ),
        (
            SITE + DESTINATIONS + '[buffer]\nkind = "kafka"\nretention_seconds = 431999\n',
            "buffer.retention_seconds",
            "shorter than the window, the longest retry_for_seconds and a day (432000)",
        ),
        (
            SITE + DESTINATIONS + '[admin]\nlisten = "0.0.0.0:8080"\n',
            "admin.listen",
            "has the port of [http]",
        ),
        (
            SITE + DESTINATIONS + '[console]\nindex_path = "data/buffer.db"\n',
            "console.index_path",
            "is the file of the log (buffer.path)",
        ),
        (
            SITE.replace('["archive"]', '["archive", "more"]')
            + DESTINATIONS
            + DESTINATIONS.replace("archive", "more"),
            "destinations.more.path",
            "is the folder of [destinations.archive]",
        ),
        (
            SITE.replace('"archive"', '"ingest"') + DESTINATIONS.replace("archive", "ingest"),
            "destinations.ingest",
            "rejected",
        ),
        (
            SITE + DESTINATIONS + "[buffer]\nretention_seconds = 3600\n",
            "dedup.window_seconds",
            "longer than the log keeps records (3600)",
        ),
    ],
)
def test_an_error_is_told_with_its_place(tmp_path: Path, text: str, place: str, words: str) -> None:
    found = examined(tmp_path, text)
    assert [each.place for each in found.errors] == [place]
    assert words in found.errors[0].message
    assert found.errors[0].remedy


def test_a_server_key_of_two_sites_is_told_without_showing_it(tmp_path: Path) -> None:
    keys = 'server_keys = ["sk_0123456789abcdef"]\nbrowser_events = ["page"]\n'
    two = SITE.replace("shop]", "other]").replace("pk_shop", "pk_other")
    found = examined(tmp_path, SITE + keys + two + keys + DESTINATIONS)
    assert [each.place for each in found.errors] == ["sites.other.server_keys"]
    assert "sk_0123" not in str(found.errors[0])


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (SITE.replace('"archive"', "") + DESTINATIONS, "destinations.archive", "used by no site"),
        (
            SITE + 'server_keys = ["sk_0123456789abcdef"]\n' + DESTINATIONS,
            "sites.shop.browser_events",
            "sales",
        ),
        (
            SITE.replace('["https://shop.example"]', "[]") + DESTINATIONS,
            "sites.shop.origins",
            "no page may post",
        ),
        (SITE.replace('"pk_shop"', "") + DESTINATIONS, "sites.shop", "has no key"),
        (
            SITE + DESTINATIONS + "[buffer]\nretention_seconds = 172800\n",
            "buffer.retention_seconds",
            "shorter than the window",
        ),
        (
            SITE + DESTINATIONS + "[buffer]\nmax_bytes = 1048576\n",
            "buffer.max_bytes",
            "too little",
        ),
        (
            SITE + DESTINATIONS + "timeout_seconds = 31\n",
            "destinations.archive.timeout_seconds",
            "is 31, more than admin.stop_seconds (30)",
        ),
    ],
)
def test_a_warning_leaves_the_settings_usable(
    tmp_path: Path, text: str, place: str, words: str
) -> None:
    found = examined(tmp_path, text)
    assert found.settings is not None
    assert [each.place for each in found.warnings] == [place]
    assert words in found.warnings[0].message


DUBS = """
[sites.shop]
browser_keys = ["pk_shop"]
origins = ["https://shop.example"]
destinations = ["one", "two"]
[destinations.one]
kind = "dub"
api_key = "dub_one-key-of-both"
[destinations.two]
kind = "dub"
api_key = "dub_one-key-of-both"
"""


def test_destinations_with_one_key_are_warned_that_their_rates_add_up(tmp_path: Path) -> None:
    [problem] = examined(tmp_path, DUBS).warnings
    assert problem.place == "destinations.two.rate_per_second"
    assert "with [destinations.one], up to 39 requests a second by one key" in problem.message
    assert "dub_one" not in str(problem)
    lowered = DUBS.replace('of-both"', 'of-both"\nrate_per_second = 9.5')
    assert not examined(tmp_path, lowered).problems
    assert not examined(tmp_path, DUBS.replace("key-of-both", "key-of-two", 1)).problems


def test_free_ports_do_not_collide(tmp_path: Path) -> None:
    listen = '[http]\nlisten = "127.0.0.1:0"\n[admin]\nlisten = "127.0.0.1:0"\n'
    assert not examined(tmp_path, SITE + DESTINATIONS + listen).problems


def test_a_hand_over_may_take_as_long_as_the_slowest_answer_and_ten_seconds(
    tmp_path: Path,
) -> None:
    text = SITE + DESTINATIONS + "timeout_seconds = 25\n"
    settings = examined(tmp_path, text).settings
    assert settings is not None
    assert hand_over_seconds(settings) == 35


def test_the_facts_say_what_the_window_and_a_dead_destination_need(tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(SITE + DESTINATIONS)
    text = "\n".join(facts(load(path, {})))
    assert "to archive" in text
    assert "607 MiB" in text  # 2.4 million keys at 45 bytes, and a cart each at 220
    assert "8.9 GiB" in text  # 27.8 events/s for four days at 1,000 bytes


def test_mail_that_no_destination_of_its_site_takes_is_warned_of(tmp_path: Path) -> None:
    source = """
[sources.mail]
kind = "postgrid"
site = "shop"
api_key = "test_sk_1"
"""
    assert not examined(tmp_path, SITE + DESTINATIONS + source).problems
    only_carts = DESTINATIONS + 'events = ["cart"]\n'
    [problem] = examined(tmp_path, SITE + only_carts + source).problems
    assert "no destination of which takes mail events" in str(problem)
