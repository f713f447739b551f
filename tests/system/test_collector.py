"""The collector in three browser engines, against a gateway process: nothing lost, nothing twice.

What counts is what the gateway's file destination and the stand-ins hold. Events are told apart by
names that belong to one test; at the end, all of them are counted once more.
"""

import asyncio
import logging
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest
import pytest_asyncio
from aiohttp import web
from yarl import URL

from gateway.sandbox.voyado import VOYADO
from tests.engines import ENGINES, Engine, Needs, Unattended
from tests.gateways import ROOT, Gateway, Sandboxes, config, eventually, free_port, sandboxes
from tests.relays import (
    Relay,
    Seen,
    certificate,
    cut,
    cuts,
    declines,
    delays,
    frozen,
    loses_answer,
    served,
)

pytestmark = [
    pytest.mark.system,
    pytest.mark.timeout(180),
    pytest.mark.asyncio(loop_scope="module"),
]

_log = logging.getLogger(__name__)
"""Tells what was measured: `--log-cli-level=INFO` shows it."""

DEADLINE_SECONDS = 60
READY = "return Boolean(window.gateway && gateway.key)"
"""The collector has taken over from the stub before it."""
LATER = "{ const now = Date.now; Date.now = () => now() + 20000 }"
"""As if 20 seconds had passed: for that long events are left to a page that may have gone."""
STORED = """
return Promise.all([indexedDB.databases ? indexedDB.databases() : [], caches.keys()]).then(
  ([databases, kept]) => [
    ...Object.keys(localStorage), ...Object.keys(sessionStorage), ...databases, ...kept,
    ...document.cookie.split('; ').filter(Boolean)])
"""
QUEUED = "return Object.keys(localStorage).filter(name => /:0[0-9a-f-]{35}$/.test(name)).length"


@dataclass
class Shop:
    """Pages with the collector, the relay it talks to, and the gateway behind that."""

    url: str
    tag: str
    relay: Relay
    gateway: Gateway
    there: Sandboxes
    pages: dict[str, web.Response] = field(default_factory=dict)
    visits: list[web.Request] = field(default_factory=list)
    expected: dict[str, Counter[str]] = field(default_factory=dict)

    def page(
        self,
        path: str,
        head: str = "",
        body: str = "",
        tag: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> str:
        """Put up a page; its address."""
        html = (
            f'<!doctype html><html lang="sv-SE"><head><title>{path}</title>{head}'
            f"{self.tag if tag is None else tag}</head><body>{body}</body></html>"
        )
        self.pages[path] = web.Response(text=html, content_type="text/html", headers=headers)
        return self.url + path

    def with_consent(self, consent: str) -> str:
        """The tag, with this consent in it."""
        return self.tag.replace(" data-key=", f' data-consent="{consent}" data-key=')

    def events(self, label: str) -> list[dict[str, Any]]:
        """What the file destination holds of a test."""
        found = []
        for path in (self.gateway.folder / "archive").glob("*.ndjson"):
            lines = (line for line in path.read_bytes().splitlines() if label.encode() in line)
            found += [orjson.loads(line) for line in lines]
        return found

    def counts(self, label: str) -> Counter[str]:
        """How often each event of a test is there."""
        return Counter(map(called, self.events(label)))

    async def has(self, label: str, *events: str, seconds: float = DEADLINE_SECONDS) -> None:
        """Wait until a test's events are there, and everything is delivered: exactly these."""
        wanted = Counter(events)
        self.expected.pop(label, None)

        async def there() -> bool:
            return self.counts(label) >= wanted and self.relay.in_flight == 0

        try:
            await eventually(there, seconds, f"all of {label}", every=0.05)
        except AssertionError as error:
            answers = Counter(each.status for each in self.relay.posts)
            missing = f"missing: {wanted - self.counts(label)}; answers: {answers}"
            raise AssertionError(missing) from error
        await self.gateway.until_drained(("archive",), seconds)
        assert self.counts(label) == wanted
        self.expected[label] = wanted

    async def serve(self, request: web.Request) -> web.Response:
        """Answer for a page."""
        self.visits.append(request)
        made = self.pages.get(request.path)
        if made is None:
            return web.Response(status=204)
        return web.Response(body=made.body, headers=made.headers)


def called(event: dict[str, Any]) -> str:
    """The name by which a test knows an event."""
    match event["type"]:
        case "page":
            return str(URL(event["url"]).path_qs)
        case "product":
            return str(event["itemId"])
        case "custom":
            return str(event["eventName"])
        case other:
            return str(other)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Shop]:
    """Start everything but a browser."""
    tls = certificate(folder)
    port = free_port()
    url = f"https://127.0.0.1:{port}"
    async with sandboxes() as there:
        at_once = config(folder, there, origin=url).replace(
            "batch_seconds = 0.2", "batch_seconds = 0"
        )
        gateway = Gateway(folder, at_once)
        await gateway.start()
        relay = Relay(free_port(), f"http://127.0.0.1:{gateway.public}", tls)
        shop = Shop(url, await snippet(gateway, relay), relay, gateway, there)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", shop.serve)
        async with relay.serving(), served(app, port, tls):
            try:
                yield shop
            finally:
                await gateway.abandon()


async def snippet(gateway: Gateway, relay: Relay) -> str:
    """The public tag, as the command prints it, with full consent."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", "snippet", "--config", str(gateway.path), "--site", "shop",
        "--gateway", relay.url, cwd=ROOT, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode().strip()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def whole_shop(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Shop]:
    """The shop that all tests share; at the end nothing has come twice, and no preflight ever."""
    async with opened(tmp_path_factory.mktemp("shop")) as shop:
        yield shop
        await shop.gateway.until_drained(("archive",), DEADLINE_SECONDS)
        assert {label: shop.counts(label) for label in shop.expected} == shop.expected


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=list(ENGINES))
async def engine(
    request: pytest.FixtureRequest, needs: Needs, whole_shop: Shop
) -> AsyncIterator[Engine]:
    """One engine after another; each runs through its tests without a restart.

    It ends before the shop does: connections of a browser that lives on would be left open.
    """
    engine = ENGINES[request.param](needs, whole_shop.gateway.folder / request.param)
    try:
        await engine.start()
        yield engine
    finally:
        await engine.kill()


@pytest_asyncio.fixture(loop_scope="module")
async def shop(whole_shop: Shop, engine: Engine) -> AsyncIterator[Shop]:
    """The shop, to a browser that has never been there, in a new tab."""
    await engine.only_new_tab()
    await engine.opens(whole_shop.page("/blank", tag=""))
    await engine.forget_cookies()
    await engine.runs("localStorage.clear(); sessionStorage.clear()")
    whole_shop.relay.reset()
    whole_shop.visits.clear()
    yield whole_shop
    assert {each.method for each in whole_shop.relay.seen} <= {"GET", "POST"}  # no preflight


@pytest.fixture
def label(engine: Engine, request: pytest.FixtureRequest) -> str:
    """A name for everything in this test."""
    return f"{engine.name}-{uuid4().hex[:8]}-{request.node.originalname[5:30]}"


async def enters(engine: Engine, url: str) -> None:
    """Open a page and wait for its collector."""
    await engine.opens(url)
    await engine.until(READY, "the collector runs")


async def does(engine: Engine, *names: str) -> None:
    """Let custom events happen in the page."""
    script = "for (const eventName of arguments[0]) gateway('custom', { eventName })"
    await engine.runs(script, list(names))


def names(label: str, count: int) -> list[str]:
    """Names of events of a test."""
    return [f"{label}-{number}" for number in range(count)]


@pytest.mark.parametrize("consent", ["full", "limited"])
async def test_an_event_right_before_a_navigation_arrives(
    engine: Engine, shop: Shop, label: str, consent: str
) -> None:
    paths = [f"/{label}/{number}" for number in range(13)]
    for path in paths:
        shop.page(path, tag=shop.with_consent(consent))
    happened = names(label, 12)
    await enters(engine, shop.url + paths[0])
    with shop.relay.always(delays(0.2)):
        for name, path in zip(happened, paths[1:], strict=True):
            await engine.runs(
                "gateway('custom', { eventName: arguments[0] }); location.href = arguments[1]",
                name, path,
            )  # fmt: skip
            await engine.until(f"return location.pathname == '{path}'", "the next page")
            await engine.until(READY, "the collector runs")
        await shop.has(label, *happened, *paths)


@pytest.mark.parametrize("consent", ["full", "limited"])
async def test_an_event_right_before_its_tab_closes_arrives(
    engine: Engine, shop: Shop, label: str, consent: str
) -> None:
    url = shop.page(f"/{label}", tag=shop.with_consent(consent))
    happened = names(label, 6)
    with shop.relay.always(delays(0.2)):
        for name in happened:
            await engine.new_tab()
            await enters(engine, url)
            await does(engine, name)
            await engine.close_tab()
        await shop.has(label, *happened, *[f"/{label}"] * 6)


async def test_events_from_offline_arrive_once_online(
    engine: Engine, shop: Shop, label: str
) -> None:
    await enters(engine, shop.page(f"/{label}", tag=shop.with_consent("full")))
    await shop.has(label, f"/{label}")
    with shop.relay.always(cut):
        if engine.goes_offline:
            await engine.set_offline(True)
        await does(engine, *names(label, 3))
        await engine.until(f"{QUEUED} == 3", "three events wait")
    if engine.goes_offline:
        await engine.set_offline(False)
    await shop.has(label, f"/{label}", *names(label, 3))


async def test_events_wait_while_the_gateway_is_away(
    engine: Engine, shop: Shop, label: str
) -> None:
    await enters(engine, shop.page(f"/{label}", tag=shop.with_consent("full")))
    await shop.has(label, f"/{label}")
    shop.relay.reset()
    await shop.gateway.kill()
    await does(engine, *names(label, 3))
    await until_tried(shop, 1)
    await shop.gateway.start()
    await shop.has(label, f"/{label}", *names(label, 3))


@pytest.mark.slow
async def test_events_wait_while_the_gateway_is_away_for_20_seconds(
    engine: Engine, shop: Shop, label: str
) -> None:
    await enters(engine, shop.page(f"/{label}", tag=shop.with_consent("full")))
    await shop.has(label, f"/{label}")
    clock = asyncio.get_running_loop().time
    await shop.gateway.kill()
    began = clock()
    happened: list[str] = []

    async def has_been_away() -> bool:
        happened.append(f"{label}-{len(happened)}")
        await does(engine, happened[-1])
        return clock() - began > 20

    await eventually(has_been_away, 60, "twenty seconds", every=2)
    await shop.gateway.start()
    back = clock()
    await shop.has(label, f"/{label}", *happened, seconds=120)
    _log.info("%s: all had arrived %.1f s after the gateway was back", engine.name, clock() - back)


@pytest.mark.slow
async def test_a_gateway_that_never_answers_loses_nothing(
    engine: Engine, shop: Shop, label: str
) -> None:
    one = shop.page(f"/{label}/1", tag=shop.with_consent("full"))
    two = shop.page(f"/{label}/2", tag=shop.with_consent("full"))
    await enters(engine, one)
    await shop.has(label, f"/{label}/1")
    thawed = asyncio.Event()
    with shop.relay.always(frozen(thawed)):
        await does(engine, *names(label, 3))
        await enters(engine, two)
    thawed.set()
    await shop.has(label, f"/{label}/1", f"/{label}/2", *names(label, 3))


async def until_tried(shop: Shop, times: int) -> None:
    """Wait until so many requests with events have failed or been answered."""

    async def tried() -> bool:
        return len(shop.relay.posts) >= times and shop.relay.in_flight == 0

    await eventually(tried, DEADLINE_SECONDS, f"{times} tries", every=0.02)


async def test_a_gateway_that_asks_for_time_gets_it(engine: Engine, shop: Shop, label: str) -> None:
    await enters(engine, shop.page(f"/{label}", tag=shop.with_consent("full")))
    await shop.has(label, f"/{label}")
    shop.relay.reset()
    shop.relay.next(declines(429, 2), declines(503, 1))
    await does(engine, f"{label}-0")
    await until_tried(shop, 1)
    await does(engine, f"{label}-1")
    await shop.has(label, f"/{label}", *names(label, 2))
    first, second, third = shop.relay.posts[:3]
    assert 2 <= second.at - first.at < 6
    assert 1 <= third.at - second.at < 4
    assert [first.status, second.status, third.status] == [429, 503, 204]


async def test_an_event_whose_answer_was_lost_counts_once(
    engine: Engine, shop: Shop, label: str
) -> None:
    shop.relay.next(loses_answer)
    await enters(engine, shop.page(f"/{label}", tag=shop.with_consent("full")))
    await until_tried(shop, 2)
    await shop.has(label, f"/{label}")
    await engine.until(f"{QUEUED} == 0", "nothing waits")
    lost, again = shop.relay.posts
    assert lost.ids == again.ids


async def test_events_survive_the_browser_being_killed(
    whole_shop: Shop, needs: Needs, tmp_path: Path
) -> None:
    """Side by side, for most of it is waiting until a browser writes its storage to the disk."""
    whole_shop.relay.reset()
    labels = {name: f"{name}-{uuid4().hex[:8]}-killed" for name in ENGINES}
    cut_off = set(labels.values())
    with whole_shop.relay.always(cuts(cut_off)):
        async with asyncio.TaskGroup() as side_by_side:
            for name, label in labels.items():
                browsers = Browsers(name, needs, tmp_path / name)
                side_by_side.create_task(outlives_its_browser(whole_shop, label, browsers, cut_off))


@dataclass
class Browsers:
    """The browsers of a kind that run on a profile, one after another."""

    name: str
    needs: Needs
    profile: Path

    @asynccontextmanager
    async def running(self, url: str) -> AsyncIterator[None]:
        """Start another one at a page; kill it in the end."""
        engine = ENGINES[self.name]
        browser = (engine if engine.restarts else Unattended)(self.needs, self.profile)
        try:
            await browser.start_at(url)
            yield
        finally:
            await browser.kill()

    def is_on_disk(self, text: str) -> bool:
        """Whether the kept storage holds the text, as browsers encode it."""
        needles = (text.encode(), text.encode("utf-16-le"))
        for path in self.profile.glob(ENGINES[self.name].local_storage):
            with suppress(OSError):  # gone meanwhile
                content = path.read_bytes()
                if any(needle in content for needle in needles):
                    return True
        return False


async def outlives_its_browser(
    shop: Shop, label: str, browsers: Browsers, cut_off: set[str]
) -> None:
    """Kill a browser once five events are on the disk; the next one sends them.

    Each name is made of two pieces, so that only the collector's storage has it whole, and of
    letters that seldom follow one another: Firefox's compression leaves it so, but for its start.
    """
    happened = ["".join(random.choices("ghjkmnpqrstvwxyz", k=16)) for _ in range(5)]
    calls = "".join(
        f"gateway('custom', {{ eventName: '{each[:8]}' + '{each[8:]}' }});" for each in happened
    )
    tag = shop.with_consent("full")
    before = shop.page(f"/{label}/before", tag=tag, body=f"<script>{calls}</script>")
    after = shop.page(f"/{label}/after", tag=tag, head=f"<script>{LATER}</script>")

    async def kept() -> bool:
        return await asyncio.to_thread(browsers.is_on_disk, happened[-1][4:])

    async with browsers.running(before):
        await eventually(lambda: was_visited(shop, f"/{label}/before"), 30, "a page is asked for")
        clock = asyncio.get_running_loop().time
        began = clock()
        await eventually(kept, DEADLINE_SECONDS, "kept on the disk", every=0.1)
        took = clock() - began
    _log.info("%s: events were on the disk after %.1f s", browsers.name, took)
    assert not shop.events(label)
    cut_off.remove(label)
    async with browsers.running(after):
        await shop.has(label, *happened, f"/{label}/before", f"/{label}/after")


async def test_two_tabs_share_what_waits_and_send_it_once(
    engine: Engine, shop: Shop, label: str
) -> None:
    url = shop.page(f"/{label}", tag=shop.with_consent("full"))
    await enters(engine, url)
    first = await engine.current_tab()
    second = await engine.new_tab()
    await enters(engine, url)
    pages = [f"/{label}"] * 2
    await shop.has(label, *pages)
    shop.relay.reset()
    with shop.relay.always(delays(0.2)):
        for number in range(4):
            for tab in (first, second):
                await engine.switch_to(tab)
                await does(engine, f"{label}-{tab}-{number}")
    both = [f"{label}-{tab}-{number}" for tab in (first, second) for number in range(4)]
    await shop.has(label, *pages, *both)
    assert max(Counter(sent(shop.relay.posts)).values()) == 1
    with shop.relay.always(cut):
        await engine.switch_to(second)
        await does(engine, *names(label, 3))
        await until_tried(shop, len(shop.relay.posts) + 1)
        await engine.close_tab()
    await engine.switch_to(first)
    # By an element of the page, for a driver's own scripts may have another Date.
    await engine.runs(
        "const script = document.createElement('script'); script.text = arguments[0];"
        "document.head.append(script)",
        LATER,
    )
    await does(engine, f"{label}-last")
    await shop.has(label, *pages, *both, *names(label, 3), f"{label}-last")


def sent(posts: list[Seen]) -> list[str]:
    """The ids of all events in these requests."""
    return [each for post in posts for each in post.ids]


async def test_a_page_restored_from_the_cache_is_viewed_again(
    engine: Engine, shop: Shop, label: str
) -> None:
    looks = "<script>addEventListener('pageshow', e => window.restored = e.persisted)</script>"
    one = shop.page(f"/{label}/1", head=looks)
    two = shop.page(f"/{label}/2")
    await enters(engine, one)
    await shop.has(label, f"/{label}/1")  # Firefox keeps no page whose request is in flight
    await enters(engine, two)
    await engine.goes_back()
    await engine.until("return window.restored", "restored from the cache")
    await does(engine, f"{label}-0")
    await shop.has(label, *[f"/{label}/1"] * 2, f"/{label}/2", f"{label}-0")


async def test_a_prerendered_page_is_viewed_when_it_is_seen(
    engine: Engine, shop: Shop, label: str
) -> None:
    loaded = f"<script>addEventListener('load', () => fetch('/{label}/loaded'))</script>"
    two = shop.page(f"/{label}/2", head=loaded)
    rules = (
        '<script type="speculationrules">{"prerender": [{"source": "list", "eagerness":'
        f' "immediate", "urls": ["{two}"]}}]}}</script>'
    )
    await enters(engine, shop.page(f"/{label}/1", head=rules))
    if engine.prerenders:
        await eventually(lambda: was_visited(shop, f"/{label}/loaded"), 30, "prerendered")
        [visit] = [each for each in shop.visits if each.path == f"/{label}/2"]
        assert visit.headers["Sec-Purpose"] == "prefetch;prerender"
    await shop.has(label, f"/{label}/1")
    await engine.runs("location.href = arguments[0]", two)
    await shop.has(label, f"/{label}/1", f"/{label}/2")
    await engine.until(READY, "the collector runs")
    assert len([each for each in shop.visits if each.path == f"/{label}/2"]) == 1


async def was_visited(shop: Shop, path: str) -> bool:
    return any(each.path == path for each in shop.visits)


async def test_each_page_of_an_app_is_viewed_once(engine: Engine, shop: Shop, label: str) -> None:
    await enters(engine, shop.page(f"/{label}/1"))
    for step in (
        f"history.pushState(0, '', '/{label}/2')",
        f"history.pushState(0, '', '/{label}/2')",
        f"history.pushState(0, '', '/{label}/2#part')",
        f"history.replaceState({{ scroll: 9 }}, '', '/{label}/2')",
        f"history.pushState(0, '', '/{label}/3')",
        "history.back()",
    ):
        await engine.runs(step)
        # What a change of address sets off comes after it.
        await engine.runs("return new Promise(resolve => setTimeout(resolve, 20))")
    await engine.until(f"return location.pathname == '/{label}/2'", "went back")
    await does(engine, f"{label}-0")
    await shop.has(label, *(f"/{label}/{each}" for each in (1, 2, 3, 2)), f"{label}-0")


async def test_consent_can_be_given_and_taken_back(engine: Engine, shop: Shop, label: str) -> None:
    await enters(engine, shop.page(f"/{label}", tag=shop.tag))
    await shop.has(label, f"/{label}")
    assert await engine.runs(STORED) == []
    assert await engine.cookies() == {}

    await engine.runs("gateway('consent', 'full')")
    await does(engine, f"{label}-full")
    await shop.has(label, f"/{label}", f"{label}-full")
    assert await engine.runs(STORED) != []
    assert set(await engine.cookies()) == {"gateway_visitor"}

    await engine.runs("gateway('consent', 'limited')")
    await does(engine, f"{label}-limited")
    await shop.has(label, f"/{label}", f"{label}-full", f"{label}-limited")
    await until_forgotten(engine)

    await engine.runs("gateway('consent', 'none')")
    await does(engine, f"{label}-none")
    await engine.runs("gateway('consent', 'limited')")
    await does(engine, f"{label}-again")
    await shop.has(
        label, f"/{label}", *(f"{label}-{each}" for each in ("full", "limited", "again"))
    )
    named = {called(event): event for event in shop.events(label)}
    assert named[f"{label}-full"]["visitorId"]
    assert "visitorId" not in named[f"{label}-limited"]
    assert "visitorId" not in named[f"/{label}"]
    await until_forgotten(engine)


async def until_forgotten(engine: Engine) -> None:
    """Wait until the browser keeps nothing of us."""

    async def forgotten() -> bool:
        return await engine.runs(STORED) == [] and await engine.cookies() == {}

    await eventually(forgotten, 10, "cookies and storage are empty")


BLOCKED = """<script>Object.defineProperty(window, 'localStorage', {
  get() { throw new DOMException('blocked', 'SecurityError') } })</script>"""
FULL = """<script>for (let text = 'x'.repeat(2 ** 20), n = 0; text; n++)
  try { localStorage['full' + n] = text } catch { text = text.slice(text.length / 2 + 0.5) }
</script>"""


@pytest.mark.parametrize("head", [BLOCKED, FULL], ids=["blocked", "full"])
async def test_without_storage_events_still_arrive(
    engine: Engine, shop: Shop, label: str, head: str
) -> None:
    one = shop.page(f"/{label}/1", head=head, tag=shop.with_consent("full"))
    two = shop.page(f"/{label}/2", tag=shop.with_consent("full"))
    await enters(engine, one)
    await does(engine, *names(label, 3))
    await engine.runs("location.href = arguments[0]", two)
    await shop.has(label, f"/{label}/1", f"/{label}/2", *names(label, 3))


async def test_the_tag_runs_under_a_strict_policy(engine: Engine, shop: Shop, label: str) -> None:
    _, _, external = shop.tag.partition("</script>")  # without the stub, nothing is inline
    policy = (
        f"default-src 'none'; img-src 'self'; script-src {shop.relay.url};"
        f" connect-src {shop.relay.url};"
        f" require-trusted-types-for 'script'; report-uri /{label}/report"
    )
    url = shop.page(
        f"/{label}", tag=external, headers={"Content-Security-Policy": policy},
        body='<b data-gateway-event="custom"'
        f" data-gateway-fields='{{\"eventName\": \"{label}-0\"}}'>Try</b>",
    )  # fmt: skip
    assert 'integrity="sha384-' in external
    await enters(engine, url)
    await does(engine, f"{label}-1")
    await engine.runs("document.querySelector('b').click()")
    await shop.has(label, f"/{label}", *names(label, 2))
    assert not await was_visited(shop, f"/{label}/report")


async def test_a_script_that_was_changed_does_not_run(
    engine: Engine, shop: Shop, label: str
) -> None:
    shop.relay.script = "gateway = () => location.href = '/stolen'"
    tag = shop.tag.replace("<script async", "<script async onerror='refused = 1'")
    url = shop.page(f"/{label}", tag=tag.replace(".js", f".js?{label}"))  # not in the cache
    await engine.opens(url)
    await engine.until("return window.refused", "the script was refused")
    assert not await engine.runs(READY)


@pytest.mark.parametrize("consent", ["full", "limited"])
async def test_300_events_at_once_arrive(
    engine: Engine, shop: Shop, label: str, consent: str
) -> None:
    await enters(engine, shop.page(f"/{label}", tag=shop.with_consent(consent)))
    with shop.relay.always(delays(0.1)):
        await does(engine, *names(label, 300))
        await shop.has(label, f"/{label}", *names(label, 300))
    assert shop.relay.most_bytes <= 64 * 1024


async def test_one_event_refused_of_five_harms_no_other(
    engine: Engine, shop: Shop, label: str
) -> None:
    await enters(engine, shop.page(f"/{label}", tag=shop.with_consent("full")))
    await shop.has(label, f"/{label}")
    shop.relay.reset()
    outcomes = await engine.runs(
        "return Promise.all(arguments[0].map((eventName, n) =>"
        " gateway('custom', n == 2 ? { eventName, surprise: 1 } : { eventName })))",
        names(label, 5),
    )
    said = [each["outcome"] for each in outcomes]
    assert said == ["accepted", "accepted", "rejected", "accepted", "accepted"]
    assert outcomes[2]["field"] == "surprise"
    four = [name for name in names(label, 5) if name != f"{label}-2"]
    await shop.has(label, f"/{label}", *four)
    await engine.until(f"{QUEUED} == 0", "nothing waits")
    [post] = shop.relay.posts
    assert post.status == 200


async def test_global_privacy_control_is_limited_consent(
    engine: Engine, shop: Shop, label: str
) -> None:
    pretends = "<script>navigator.globalPrivacyControl = true</script>"
    url = shop.page(
        f"/{label}", head="" if engine.global_privacy_control else pretends,
        tag=shop.with_consent("full"),
    )  # fmt: skip
    if engine.global_privacy_control:
        await engine.set_global_privacy_control(True)
    try:
        await enters(engine, url)
        await engine.runs("gateway('consent', 'full')")
        await does(engine, f"{label}-0")
        await shop.has(label, f"/{label}", f"{label}-0")
    finally:
        if engine.global_privacy_control:
            await engine.set_global_privacy_control(False)
    assert [event["consent"] for event in shop.events(label)] == ["limited"] * 2
    assert not any("visitorId" in event for event in shop.events(label))
    assert await engine.runs(STORED) == []
    assert await engine.cookies() == {}


async def test_a_cart_and_a_view_reach_the_contact(engine: Engine, shop: Shop, label: str) -> None:
    await enters(engine, shop.page(f"/{label}", tag=shop.with_consent("full")))
    await engine.runs(
        "const [sku, url] = arguments; gateway('product', { itemId: sku });"
        "gateway('cart', { cartReference: sku, url, items: [{ sku, quantity: 2 }] });"
        "gateway('identify', { contactId: sku })",
        label[:60], shop.url,
    )  # fmt: skip
    voyado = shop.there.voyado[VOYADO]

    async def arrived() -> bool:
        carts = [each.cart for each in voyado.updates if each.cart.contact_id == label[:60]]
        views = [each.view for each in voyado.views if each.view.contact_id == label[:60]]
        return bool(carts) and bool(views)

    await eventually(arrived, DEADLINE_SECONDS, "the cart and the view at Voyado")
    assert Counter(each.view.item_id for each in voyado.views)[label[:60]] == 1
