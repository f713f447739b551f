"""The tag that a shop pastes."""

import gzip
from html.parser import HTMLParser

from gateway.http.collector import Collector
from gateway.http.snippet import QUEUE, snippet

COLLECTOR = Collector("abc123", "sha384-x+/y==", {})


class _Scripts(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag == "script"
        self.found.append(dict(attrs))


def test_the_tag_is_bound_to_the_script_by_its_hash() -> None:
    _, tag = _Scripts(snippet("https://g.shop.example/", "pk_shop", COLLECTOR)).found
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
