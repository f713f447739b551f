"""The tags that a shop pastes into its pages."""

from html import escape

from gateway.http.collector import ADAPTERS, Collector, hashed

QUEUE = (
    "window.gateway=window.gateway||function(){var a=arguments;return new Promise(function(r)"
    "{a.r=r;(gateway.q=gateway.q||[]).push(a)})}"
)
"""Keeps commands that are called before the collector has loaded, and promises their outcome.

It is older JavaScript than the collector, so that no call throws in a browser too old for that.
"""


_STUBS = {
    "datalayer": "",
    "voyado": "window.va=window.va||function(){(va.q=va.q||[]).push(arguments)}",
    "dub": (
        "window.dubAnalytics=window.dubAnalytics||function(){(dubAnalytics.q=dubAnalytics.q||[])"
        ".push(arguments)};['trackClick','trackLead','trackSale'].forEach(function(n)"
        "{dubAnalytics[n]=function(i){window.dubAnalytics(n,i)}})"
    ),
}
"""Keep the calls that an adapter takes until it has loaded; a dataLayer keeps its own."""


def snippet(gateway_url: str, key: str, collector: Collector | None) -> str:
    """Return the tag, for a page's head.

    With `collector` the tag is bound to exactly that script, by its hash: the browser runs no
    other, so the tag must be pasted anew when the gateway's version changes. Without, it isn't.
    """
    tag = _tag(gateway_url, "collector.js", collector, f' data-key="{escape(key)}"')
    return f"<script>{QUEUE}</script>\n{tag}"


def adapter_snippet(gateway_url: str, name: str, adapter: Collector | None, currency: str) -> str:
    """Return an adapter's tag, to stand after the collector's, bound as that is.

    `currency` is the site's: what a purchase is in that names none.
    """
    said = f' data-currency="{escape(currency.upper())}"' if name == "datalayer" else ""
    stub = f"<script>{_STUBS[name]}</script>\n" if _STUBS[name] else ""
    return stub + _tag(gateway_url, ADAPTERS[name], adapter, said)


def _tag(gateway_url: str, name: str, script: Collector | None, said: str) -> str:
    integrity = ""
    if script is not None:
        name = hashed(name, script.hash)
        integrity = f' integrity="{escape(script.integrity)}" crossorigin="anonymous"'
    source = escape(f"{gateway_url.rstrip('/')}/{name}")
    return f'<script async src="{source}"{said}{integrity}></script>'
