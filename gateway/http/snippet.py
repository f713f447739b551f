"""The tag that a shop pastes into its pages."""

from html import escape

from gateway.http.collector import Collector, hashed

QUEUE = (
    "window.gateway=window.gateway||function(){var a=arguments;return new Promise(function(r)"
    "{a.r=r;(gateway.q=gateway.q||[]).push(a)})}"
)
"""Keeps commands that are called before the collector has loaded, and promises their outcome.

It is older JavaScript than the collector, so that no call throws in a browser too old for that.
"""


def snippet(gateway_url: str, key: str, collector: Collector | None) -> str:
    """Return the tag, for a page's head.

    With `collector` the tag is bound to exactly that script, by its hash: the browser runs no
    other, so the tag must be pasted anew when the gateway's version changes. Without, it isn't.
    """
    base = gateway_url.rstrip("/")
    name, integrity = "collector.js", ""
    if collector is not None:
        name = hashed(name, collector.hash)
        integrity = f' integrity="{escape(collector.integrity)}" crossorigin="anonymous"'
    source = escape(f"{base}/{name}")
    return (
        f"<script>{QUEUE}</script>\n"
        f'<script async src="{source}" data-key="{escape(key)}"{integrity}></script>'
    )
