"""The tag that a shop pastes."""

import gzip
from html.parser import HTMLParser

import pytest

from gateway.http.collector import ADAPTERS, Collector
from gateway.http.snippet import QUEUE, adapter_snippet, snippet

SCRIPT = Collector("abc123", "sha384-x+/y==", {})


class _Scripts(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag == "script"
        self.found.append(dict(attrs))


def test_the_tag_is_bound_to_the_script_by_its_hash() -> None:
    _, tag = _Scripts(snippet("https://g.shop.example/", "pk_shop", SCRIPT)).found
    assert tag == {
        "async": None,
        "src": "https://g.shop.example/collector.abc123.js",
        "data-key": "pk_shop",
        "integrity": "sha384-x+/y==",
        "crossorigin": "anonymous",
    }


def test_the_tag_follows_upgrades_when_it_is_not_bound() -> None:
    _, tag = _Scripts(snippet("https://g.shop.example", "pk_shop", None)).found
    assert tag["src"] == "https://g.shop.example/collector.js"
    assert "integrity" not in tag


def test_commands_before_the_script_has_loaded_are_kept() -> None:
    assert "gateway.q" in snippet("https://g.shop.example", "pk_shop", None).splitlines()[0]


def test_the_inline_part_is_at_most_250_bytes_compressed() -> None:
    assert len(gzip.compress(QUEUE.encode())) <= 250


def test_nothing_breaks_out_of_the_tag() -> None:
    hostile = '"><script>alert(1)</script>'
    _, tag = _Scripts(snippet(f"https://g.example/{hostile}", hostile, None)).found
    assert tag["data-key"] == hostile


@pytest.mark.parametrize("name", list(ADAPTERS))
def test_an_adapters_tag_is_bound_to_its_script_as_the_collectors_is(name: str) -> None:
    tag = _Scripts(adapter_snippet("https://g.shop.example/", name, SCRIPT, "sek")).found[-1]
    assert tag["src"] == f"https://g.shop.example/adapters/{name}.abc123.js"
    assert tag["integrity"] == "sha384-x+/y=="
    unbound = _Scripts(adapter_snippet("https://g.shop.example", name, None, "sek")).found[-1]
    assert unbound["src"] == f"https://g.shop.example/adapters/{name}.js"
    assert "integrity" not in unbound


def test_the_data_layers_tag_says_the_sites_currency() -> None:
    [tag] = _Scripts(adapter_snippet("https://g.shop.example", "datalayer", None, "sek")).found
    assert tag["data-currency"] == "SEK"


@pytest.mark.parametrize("name", ["voyado", "dub"])
def test_calls_before_an_adapter_has_loaded_are_kept(name: str) -> None:
    assert ".push(arguments)" in adapter_snippet("https://g.shop.example", name, None, "sek")
