"""The ingest use case: what is taken, refused, merged, derived, and when it is answered."""

import asyncio
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from gateway.adapters.memory import MemoryBuffer
from gateway.ingest import Ingest, Problem, Receipt, Refused, SiteSettings, Taken
from gateway.metrics import EVENTS, REJECTIONS
from gateway.model import dead
from gateway.model.envelope import Envelope, decode
from gateway.model.instant import format_ms, parse_ms
from gateway.model.outcome import Rejection
from gateway.model.routing import partition_of
from gateway.model.window import DedupSettings
from gateway.ports import BufferFullError, BufferUnavailableError, Log

NOW = parse_ms("2026-11-21T10:15:00Z")
HOUR = 3_600_000
BROWSER = Receipt(NOW, origin="https://shop.example")
SERVER = Receipt(NOW, bearer="sk_secret")
FULL = {"consent": "full"}
SITES = {
    "shop": SiteSettings(
        browser_keys=("pk_shop",),
        server_keys=(SecretStr("sk_secret"),),
        origins=("https://shop.example",),
    ),
    "other": SiteSettings(
        browser_keys=("pk_other",),
        server_keys=(SecretStr("sk_other"),),
        origins=("https://other.example",),
        browser_events=("page", "cart"),
        currency="NOK",
        rejected_per_minute=3,
    ),
}


class StoppedClock:
    def __init__(self) -> None:
        self.ms = NOW

    def now_ms(self) -> int:
        return self.ms


class Shop:
    """An ingest over a buffer in memory."""

    def __init__(self, partitions: int = 4, publish_seconds: float = 5.0) -> None:
        self.clock = StoppedClock()
        self.buffer = MemoryBuffer(self.clock, partitions)
        self.ingest = Ingest(
            SITES, self.buffer, self.clock, DedupSettings(), publish_seconds=publish_seconds
        )

    async def post(
        self,
        *events: Any,
        receipt: Receipt = BROWSER,
        key: str | None = "pk_shop",
        sent: str | None = None,
        **context: Any,
    ) -> Taken | Refused:
        body: dict[str, Any] = {"context": context, "events": list(events)}
        if key is not None:
            body["key"] = key
        if sent is not None:
            body["sentAt"] = sent
        return await self.ingest.take(orjson.dumps(body), receipt)

    async def taken(self, *events: Any, **how: Any) -> Taken:
        came = await self.post(*events, **how)
        assert isinstance(came, Taken)
        return came

    async def log(self, log: Log = Log.EVENTS) -> list[tuple[int, bytes]]:
        found = []
        for partition in range(self.buffer.partitions):
            records = await self.buffer.read(log, partition, 0, 10_000)
            found += [(partition, record.value) for record in records]
        return found

    async def envelopes(self) -> list[Envelope]:
        return [decode(value) for _, value in await self.log()]

    async def only(self) -> Envelope:
        (envelope,) = await self.envelopes()
        return envelope

    async def refusal(self, event: Any, **how: Any) -> tuple[str, str | None]:
        came = await self.taken(event, **how)
        (result,) = came.results
        assert result.outcome == "rejected"
        assert result.refusal is not None
        assert result.refusal.message
        assert not await self.log()
        return result.refusal.reason, result.refusal.field


def at(offset_ms: int = 0) -> str:
    return format_ms(NOW + offset_ms)


def event(kind: str = "page", number: int | str = 1, **fields: Any) -> dict[str, Any]:
    needs: dict[str, dict[str, Any]] = {
        "product": {"itemId": "SKU-1"},
        "cart": {"cartReference": "c-1", "items": [{"sku": "SKU-1", "quantity": 2}]},
        "lead": {"eventName": "Sign up", "customerId": "u-1"},
        "sale": {"amount": 4990, "customerId": "u-1"},
        "customer": {"customerId": "u-1"},
        "custom": {"eventName": "Wishlist"},
    }
    return {"type": kind, "id": f"e-{number}", "time": at(-2000), **needs.get(kind, {}), **fields}


def outcomes(came: Taken) -> list[str]:
    return [result.outcome for result in came.results]


# The request


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b'"text"',
        b"{}",
        b'{"events": []}',
        b'{"events": {}}',
        b'{"events": [1], "key": 1}',
        b'{"events": [1], "context": []}',
        b'{"events": [1], "sentAt": "yesterday"}',
        b'{"events": [1], "sentAt": "2026-11-21T10:15:00"}',
        b'{"events": [1], "sentAt": 5}',
        b'{"events": [1], "evnts": []}',
        b"[" * 5000,
    ],
)
async def test_what_is_no_request_is_refused_and_says_why(body: bytes) -> None:
    came = await Shop().ingest.take(body, BROWSER)
    assert isinstance(came, Refused)
    assert came.problem is Problem.NOT_A_REQUEST
    assert len(came.detail) > 20


@pytest.mark.parametrize(
    ("key", "receipt"),
    [
        ("pk_none", BROWSER),
        (None, BROWSER),
        ("sk_secret", BROWSER),
        ("pk_shop", SERVER._replace(bearer="sk_wrong")),
        ("pk_shop", SERVER._replace(bearer="pk_shop")),
        ("pk_shop", SERVER._replace(bearer="")),
        ("pk_other", SERVER),
    ],
)
async def test_an_unknown_key_is_refused(key: str | None, receipt: Receipt) -> None:
    assert await Shop().post(event(), key=key, receipt=receipt) == Refused(Problem.UNKNOWN_KEY)


@pytest.mark.parametrize("origin", [None, "https://other.example", "null", "https://SHOP.example"])
async def test_a_browser_key_counts_only_on_the_sites_own_origins(origin: str | None) -> None:
    shop = Shop()
    came = await shop.post(event(), {"bad": 1}, receipt=BROWSER._replace(origin=origin))
    assert came == Refused(Problem.ORIGIN_NOT_ALLOWED)
    assert not await shop.log()


@pytest.mark.parametrize("key", [None, "pk_shop"])
async def test_a_server_key_needs_no_origin_and_no_other_key(key: str | None) -> None:
    shop = Shop()
    came = await shop.taken(event(), key=key, receipt=SERVER)
    assert came.server
    assert (await shop.only()).marks == ("server",)


async def test_500_events_are_taken_and_501_are_refused() -> None:
    shop = Shop()
    came = await shop.taken(*(event(number=each) for each in range(500)))
    assert outcomes(came) == ["accepted"] * 500
    came_too = await shop.post(*(event(number=each) for each in range(501)))
    assert came_too == Refused(Problem.TOO_MANY_EVENTS)


# One bad event never harms its neighbours


good_or_bad = st.lists(
    st.tuples(st.booleans(), st.sampled_from(["page", "product", "cart", "lead", "custom"])),
    min_size=1,
    max_size=20,
)


@given(good_or_bad)
def test_in_any_mix_the_good_events_are_accepted_in_order(mix: list[tuple[bool, str]]) -> None:
    async def run() -> None:
        shop = Shop(partitions=1)
        events = [
            event(kind, index, **({} if good else {"wrong": 1}))
            | ({"time": at(index)} if kind == "cart" else {})
            for index, (good, kind) in enumerate(mix)
        ]
        came = await shop.taken(*events, **FULL)
        expected = ["accepted" if good else "rejected" for good, _ in mix]
        assert outcomes(came) == expected
        assert [result.id for result in came.results] == [each["id"] for each in events]
        ids = [each.id for each in await shop.envelopes()]
        assert ids == [f"e-{index}" for index, (good, _) in enumerate(mix) if good]

    asyncio.run(run())


@pytest.mark.parametrize("bad", [None, 1, "x", [], {}, {"type": "page"}, {"id": 5}])
async def test_a_bad_event_of_any_shape_leaves_the_next_alone(bad: Any) -> None:
    assert outcomes(await Shop().taken(bad, event())) == ["rejected", "accepted"]


async def test_what_is_written_is_what_was_posted() -> None:
    shop = Shop()
    lead = event("lead", metadata={"plan": "pro", "n": [1, 2.5, None, True]}, clickId="k")
    await shop.taken(lead, **FULL, utm={"utm_b": "1", "utm_a": "2"}, language="sv-SE")
    found = await shop.only()
    assert found.event == lead
    assert found.context == {"utm": {"utm_b": "1", "utm_a": "2"}, "language": "sv-SE"}
    assert list(found.context["utm"]) == ["utm_b", "utm_a"]
    assert (found.site, found.consent, found.received_ms) == ("shop", "full", NOW)


async def test_a_bad_context_refuses_every_event_by_name() -> None:
    shop = Shop()
    assert await shop.refusal(event(), visitorId="v" * 101) == (
        "over_limit",
        "context.visitorId",
    )
    assert await shop.refusal(event(), visitorid="v") == ("unknown_field", "context.visitorid")
    assert await shop.refusal(event(), consent="yes") == ("bad_value", "context.consent")


# Limits on size and depth


async def test_an_event_has_64_kib_at_most() -> None:
    shop = Shop()
    items = [{"sku": f"{each:0100}", "quantity": 999_999} for each in range(490)]
    big = event("cart", items=items, url="")
    room = 64 * 1024 - len(orjson.dumps(big))
    assert outcomes(await shop.taken({**big, "url": "u" * min(room, 2048)}, event()))[1:] == [
        "accepted"
    ]
    over = event("cart", 2, items=items, metadata={"m": "x" * 9000})
    came = await shop.taken(over, event(number=3))
    assert outcomes(came) == ["rejected", "accepted"]
    assert came.results[0].refusal is not None
    assert came.results[0].refusal.reason is Rejection.TOO_LARGE


async def test_an_event_of_exactly_64_kib_is_taken_and_one_byte_more_is_not() -> None:
    shop = Shop()
    items = [{"sku": f"{each:0100}", "quantity": 1} for each in range(480)]
    big = event("cart", items=items, metadata={"m": ""})
    room = 64 * 1024 - len(orjson.dumps(big))
    assert room < 9000
    exact = {**big, "metadata": {"m": "x" * room}}
    assert outcomes(await shop.taken(exact, **FULL)) == ["accepted"]
    over = {**big, "metadata": {"m": "x" * (room + 1)}}
    assert outcomes(await shop.taken(over, **FULL)) == ["rejected"]


async def test_a_context_has_16_kib_at_most() -> None:
    shop = Shop()
    fits = {f"k{each}": "v" * 500 for each in range(10)}
    assert outcomes(await shop.taken(event(), **FULL, adClickIds=fits, url="u" * 2048)) == [
        "accepted"
    ]
    large = {f"k{each}": "å" * 500 for each in range(10)}
    utm = {f"utm_{each}": "å" * 255 for each in range(10)}
    came = await shop.taken(event(number=2), **FULL, adClickIds=large, utm=utm, url="å" * 1000)
    assert came.results[0].refusal is not None
    assert came.results[0].refusal.reason is Rejection.TOO_LARGE
    assert came.results[0].refusal.field == "context"


@pytest.mark.parametrize("padding", [0, 70_000])
@pytest.mark.parametrize("levels", [20, 300, 900])
async def test_json_that_nests_too_deep_is_refused_by_event(levels: int, padding: int) -> None:
    body = b'{"key":"pk_shop","events":[{"type":"page","x":%s},%s]}%s' % (
        b"[" * levels + b"]" * levels,
        orjson.dumps(event()),
        b" " * padding,
    )
    came = await Shop().ingest.take(body, BROWSER)
    assert isinstance(came, Taken)
    assert outcomes(came) == ["rejected", "accepted"]
    assert came.results[0].refusal is not None
    assert came.results[0].refusal.reason is Rejection.TOO_DEEP


# Time


@pytest.mark.parametrize(
    ("time", "reason"),
    [
        ("2026-11-21T10:14:58", Rejection.TIME_WITHOUT_ZONE),
        ("2026-11-21", Rejection.TIME_WITHOUT_ZONE),
        ("soon", Rejection.BAD_VALUE),
        ("", Rejection.BAD_VALUE),
        ("2026-13-21T10:14:58Z", Rejection.BAD_VALUE),
        ("1763720098", Rejection.BAD_VALUE),
        (1763720098, Rejection.WRONG_TYPE),
    ],
)
async def test_a_time_names_an_instant_or_the_event_is_refused(
    time: Any, reason: Rejection
) -> None:
    assert await Shop().refusal(event(time=time)) == (reason, "time")
    view = {"id": "r", "time": time, "itemId": "i"}
    customer = event("customer", recent=[view])
    assert await Shop().refusal(customer, **FULL) == (reason, "recent[0].time")


async def test_times_are_compared_as_instants() -> None:
    shop = Shop()
    cart = event("cart", time="2026-11-21T10:14:58.031Z")
    same = {**cart, "id": "e-2", "time": "2026-11-21T11:14:58.031000+01:00"}
    assert outcomes(await shop.taken(cart, same)) == ["accepted", "duplicate"]
    later = {**cart, "time": "2026-11-21T10:14:58.031001Z"}
    assert outcomes(await shop.taken(later)) == ["accepted"]


async def test_an_event_may_lie_an_hour_after_sent_at_and_no_more() -> None:
    ahead = event(time=at(HOUR))
    assert outcomes(await Shop().taken(ahead, sent=at())) == ["accepted"]
    assert await Shop().refusal(event(time=at(HOUR + 1)), sent=at()) == ("in_future", "time")
    assert await Shop().refusal(event(time=at(HOUR + 1))) == ("in_future", "time")
    view = {"id": "r", "time": at(HOUR + 1), "itemId": "i"}
    assert await Shop().refusal(event("customer", recent=[view]), sent=at(), **FULL) == (
        "in_future",
        "recent[0].time",
    )


async def test_an_event_may_be_as_old_as_the_window_and_no_older() -> None:
    window = 86_400_000
    assert outcomes(await Shop().taken(event(time=at(-window)), sent=at())) == ["accepted"]
    assert await Shop().refusal(event(time=at(-window - 1)), sent=at()) == ("too_old", "time")


@pytest.mark.parametrize("wrong_ms", [60_001, -60_001, 400 * 86_400_000])
async def test_a_clock_more_than_a_minute_wrong_is_corrected_by_the_events_age(
    wrong_ms: int,
) -> None:
    shop = Shop()
    own = at(wrong_ms - 5000)
    cart = event("cart", time=own)
    await shop.taken(cart, sent=at(wrong_ms))
    found = await shop.only()
    assert found.corrected_ms == NOW - 5000
    assert found.marks == ("clock",)
    assert found.event["time"] == own
    assert found.dedup_key == f"cart:shop:{parse_ms(own) * 1000}:c-1"


@pytest.mark.parametrize("wrong_ms", [60_000, -60_000, 0])
async def test_a_clock_within_a_minute_is_believed(wrong_ms: int) -> None:
    shop = Shop()
    await shop.taken(event(time=at(wrong_ms - 5000)), sent=at(wrong_ms))
    found = await shop.only()
    assert found.corrected_ms == NOW + wrong_ms - 5000
    assert found.marks == ()


async def test_a_retry_of_a_corrected_event_has_the_same_dedup_key() -> None:
    shop = Shop()
    cart = event("cart", time=at(5 * HOUR))
    await shop.taken(cart, sent=at(5 * HOUR))
    shop.clock.ms += HOUR
    again = BROWSER._replace(received_ms=shop.clock.ms)
    assert outcomes(await shop.taken(cart, sent=at(6 * HOUR), receipt=again)) == ["duplicate"]


# Consent


PERSONAL: dict[str, Any] = {
    "visitorId": "v",
    "sessionId": "s",
    "contactId": "c",
    "eclub": "e",
    "customerId": "u-1",
    "clickId": "k",
    "adClickIds": {"gclid": "g"},
    "mailReference": "m",
}


async def test_full_consent_keeps_personal_fields() -> None:
    shop = Shop()
    await shop.taken(event("page", metadata={"a": 1}), **FULL, **PERSONAL)
    found = await shop.only()
    assert found.context == PERSONAL
    assert found.event["metadata"] == {"a": 1}


@pytest.mark.parametrize(
    ("said", "receipt"),
    [
        ({}, BROWSER),
        ({"consent": None}, BROWSER),
        ({"consent": "limited"}, BROWSER),
        ({"consent": "full"}, BROWSER._replace(gpc=True)),
        ({"consent": "limited"}, SERVER),
        ({}, SERVER._replace(gpc=True)),
    ],
)
async def test_limited_consent_drops_personal_fields_before_anything_is_written(
    said: dict[str, Any], receipt: Receipt
) -> None:
    shop = Shop()
    sale = event(
        "sale",
        invoiceId="o-1",
        cartReference="c-1",
        customerName="Ann",
        customerEmail="ann@shop.example",
        customerAvatar="https://ann.example/a.png",
        metadata={"secret": "Ann"},
        **PERSONAL,
    )
    customer = event(
        "customer", 2, country="SE", recent=[{"id": "r", "time": at(), "itemId": "i"}], **PERSONAL
    )
    brought = receipt._replace(cookies={"visitorId": "cookie", "contactId": "cookie"})
    came = await shop.taken(
        sale,
        customer,
        receipt=brought,
        language="sv",
        url="https://shop.example/p",
        **said,
        **PERSONAL,
    )
    assert outcomes(came) == ["accepted", "accepted"]
    forgotten = {} if receipt.bearer else {"visitorId": None, "contactId": None}
    assert came.cookies == forgotten
    for found in await shop.envelopes():
        assert found.consent == "limited"
        assert found.context == {"language": "sv", "url": "https://shop.example/p"}
    kept = {found.type: found.event for found in await shop.envelopes()}
    assert kept["sale"] == {
        "type": "sale",
        "id": "e-1",
        "time": at(-2000),
        "amount": 4990,
        "currency": "sek",
        "invoiceId": "o-1",
        "cartReference": "c-1",
    }
    assert kept["customer"] == {"type": "customer", "id": "e-2", "time": at(-2000)}
    text = b"".join(value for _, value in await shop.log())
    for trace in (b"Ann", b"ann@", b"cookie", b"u-1"):
        assert trace not in text


async def test_a_server_key_without_consent_means_full() -> None:
    shop = Shop()
    await shop.taken(event("lead"), receipt=SERVER)
    found = await shop.only()
    assert found.consent == "full"
    assert found.event["customerId"] == "u-1"


@pytest.mark.parametrize("receipt", [BROWSER, SERVER])
async def test_without_consent_events_are_counted_and_nothing_is_kept(receipt: Receipt) -> None:
    shop = Shop()
    shop.ingest.start()
    before = EVENTS.labels("shop", "page", "dropped")._value.get()
    came = await shop.taken(event(), {"bad": 1}, receipt=receipt, consent="none", visitorId="v")
    assert outcomes(came) == ["rejected", "rejected"]
    assert {each.refusal.reason for each in came.results if each.refusal} == {"consent_none"}
    assert EVENTS.labels("shop", "page", "dropped")._value.get() == before + 1
    assert came.cookies == {}
    await shop.ingest.stop()
    assert not await shop.log()
    assert not await shop.log(Log.DEAD)


async def test_addresses_lose_contact_click_and_mail_parameters_at_any_consent() -> None:
    url = "https://shop.example/?a=1&vtid=x"
    customer = event(
        "customer", recent=[{"id": "r", "time": at(), "itemId": "i", "url": url}], contactId="c"
    )
    for consent in ("full", "limited"):
        shop = Shop()
        cart = event("cart", 2, url=url)
        page = event(number=3, url=url, referrer=url)
        await shop.taken(customer, cart, page, consent=consent, url=url, referrer=url)
        text = b"".join(value for _, value in await shop.log())
        assert b"vtid" not in text
        assert text.count(b"https://shop.example/?a=1") > 5


# Which value wins


def has(cookies: dict[str, str]) -> Receipt:
    since_ms = 0 if "contactId" in cookies else None
    return BROWSER._replace(cookies=cookies, contact_since_ms=since_ms)


async def test_the_events_value_wins_then_the_contexts_then_the_cookies() -> None:
    shop = Shop(partitions=1)
    cookies = has({"visitorId": "cookie", "clickId": "cookie", "contactId": "cookie"})
    await shop.taken(event(visitorId="event"), receipt=cookies, **FULL, clickId="context")
    fields = (await shop.only()).fields()
    assert (fields["visitorId"], fields["clickId"], fields["contactId"]) == (
        "event",
        "context",
        "cookie",
    )


async def test_null_means_none_and_stops_the_search() -> None:
    shop = Shop()
    cookies = has({"visitorId": "cookie", "contactId": "cookie"})
    await shop.taken(
        event(clickId=None), receipt=cookies, **FULL, clickId="k", contactId=None, language=None
    )
    fields = (await shop.only()).fields()
    assert "clickId" not in fields
    assert "contactId" not in fields
    assert "language" not in fields
    assert fields["visitorId"] == "cookie"


async def test_objects_are_replaced_whole() -> None:
    shop = Shop()
    await shop.taken(event(utm={"utm_a": "1"}), utm={"utm_b": "2"})
    assert (await shop.only()).fields()["utm"] == {"utm_a": "1"}


async def test_a_carts_url_is_never_inherited() -> None:
    shop = Shop()
    await shop.taken(event("cart"), url="https://shop.example/p")
    assert "url" not in (await shop.only()).fields()


async def test_a_server_keys_request_has_no_use_for_cookies() -> None:
    shop = Shop()
    receipt = SERVER._replace(cookies={"contactId": "cookie"})
    came = await shop.taken(event(visitorId="v"), receipt=receipt)
    assert (await shop.only()).context == {}
    assert came.cookies == {}


# Who it is about


async def test_a_customer_needs_an_identity() -> None:
    nobody = event("customer", customerId=None)
    assert await Shop().refusal(nobody, **FULL) == ("no_identity", "customerId")
    assert await Shop().refusal(nobody) == ("no_identity", "customerId")
    for name in ("customerId", "contactId", "eclub"):
        assert outcomes(await Shop().taken({**nobody, name: "x"}, **FULL)) == ["accepted"]
    customer = {"type": "customer", "id": "e", "time": at()}
    for name in ("customerId", "contactId", "eclub"):
        assert outcomes(await Shop().taken(customer, **FULL, **{name: "x"})) == ["accepted"]
    brought = has({"contactId": "cookie"})
    assert outcomes(await Shop().taken(customer, receipt=brought, **FULL)) == ["accepted"]


@pytest.mark.parametrize("kind", ["lead", "sale"])
async def test_a_lead_and_a_sale_need_a_customer_unless_consent_would_drop_it(kind: str) -> None:
    anonymous = event(kind, customerId=None)
    assert await Shop().refusal(anonymous, **FULL) == ("missing_field", "customerId")
    assert outcomes(await Shop().taken(anonymous)) == ["accepted"]
    del anonymous["customerId"]
    assert outcomes(await Shop().taken(anonymous, **FULL, customerId="u")) == ["accepted"]


async def test_a_sale_with_an_invoice_and_no_customer_is_a_guests() -> None:
    shop = Shop()
    sale = event("sale", invoiceId="o-77")
    del sale["customerId"]
    await shop.taken(sale, **FULL)
    assert (await shop.only()).event["customerId"] == "guest:o-77"
    long = {**sale, "invoiceId": "i" * 95}
    assert await Shop().refusal(long, **FULL) == ("missing_field", "customerId")
    named = Shop()
    await named.taken(sale, **FULL, customerId="u-9")
    assert (await named.only()).fields()["customerId"] == "u-9"


async def test_a_stripe_customer_is_for_server_keys_only() -> None:
    customer = event("customer", stripeCustomerId="cus_1")
    assert await Shop().refusal(customer, **FULL) == ("server_key_only", "stripeCustomerId")
    assert outcomes(await Shop().taken(customer, receipt=SERVER)) == ["accepted"]
    nobody = event("customer", stripeCustomerId=None)
    assert outcomes(await Shop().taken(nobody, **FULL)) == ["accepted"]


async def test_a_site_says_what_its_browser_key_may_post() -> None:
    shop = Shop()
    other = BROWSER._replace(origin="https://other.example")
    came = await shop.taken(event("sale"), event(), receipt=other, key="pk_other", **FULL)
    assert outcomes(came) == ["rejected", "accepted"]
    assert came.results[0].refusal is not None
    assert came.results[0].refusal.reason is Rejection.TYPE_NOT_ALLOWED
    server = SERVER._replace(bearer="sk_other")
    assert outcomes(await shop.taken(event("sale", 2), receipt=server, key=None)) == ["accepted"]


async def test_a_sale_without_a_currency_has_the_sites() -> None:
    for sale in (event("sale"), event("sale", currency=None)):
        shop = Shop()
        await shop.taken(sale, receipt=SERVER._replace(bearer="sk_other"), key=None)
        assert (await shop.only()).event["currency"] == "NOK"
    shop = Shop()
    await shop.taken(event("sale", currency="Eur"), **FULL)
    assert (await shop.only()).event["currency"] == "Eur"


@pytest.mark.parametrize(
    ("agent", "marks"),
    [
        ("Mozilla/5.0 (compatible; Googlebot/2.1)", ("bot",)),
        ("Mozilla/5.0 HeadlessChrome/156", ("bot",)),
        ("Mozilla/5.0 Firefox/153", ()),
    ],
)
async def test_bots_are_marked_not_dropped(agent: str, marks: tuple[str, ...]) -> None:
    shop = Shop()
    await shop.taken(event(), receipt=BROWSER._replace(user_agent=agent))
    assert (await shop.only()).marks == marks


async def test_a_prerendered_page_is_marked() -> None:
    shop = Shop()
    await shop.taken(event(), receipt=BROWSER._replace(prerender=True))
    assert (await shop.only()).marks == ("prerender",)


# Cookies


async def test_cookies_remember_only_what_the_request_brought() -> None:
    came = await Shop().taken(event(), receipt=has({"clickId": "old"}), **FULL, visitorId="v")
    assert came.cookies == {"visitorId": "v"}
    came = await Shop().taken(
        event(contactId="first"), event(number=2, contactId="last", clickId="k"), **FULL
    )
    assert came.cookies == {"contactId": "last", "clickId": "k"}
    came = await Shop().taken(event(contactId="x"), **FULL, contactId=None)
    assert came.cookies == {}
    came = await Shop().taken({"bad": 1}, receipt=has({"contactId": "old"}), **FULL)
    assert came.cookies == {}
    came = await Shop().taken({"bad": 1}, **FULL, visitorId="v")
    assert came.cookies == {}


async def test_a_contact_that_logged_out_is_forgotten() -> None:
    brought = has({"contactId": "old", "clickId": "k"})
    came = await Shop().taken(event(contactId=None, clickId=None), receipt=brought, **FULL)
    assert came.cookies == {"contactId": None}


async def test_without_consent_what_the_cookies_held_is_forgotten() -> None:
    came = await Shop().taken({}, receipt=has({"clickId": "k"}), consent="none")
    assert came.cookies == {"clickId": None}
    refused = await Shop().taken(event(), receipt=has({"clickId": "k"}), consent="maybe")
    assert refused.cookies == {}


# Derived events


async def test_a_sale_that_names_a_cart_empties_it() -> None:
    shop = Shop()
    sale = event("sale", cartReference="c-1", invoiceId="o-1", contactId=None, language="sv")
    await shop.taken(sale, **FULL, contactId="c", visitorId="v")
    (cart,) = [each for each in await shop.envelopes() if each.type == "cart"]
    assert cart.derived is not None
    assert (cart.derived.kind, cart.derived.cause) == ("close", "e-1")
    assert cart.dedup_key == "close:sale:shop:o-1"
    assert cart.id == "e-1:close"
    assert cart.event["items"] == []
    assert cart.event["time"] == sale["time"]
    assert cart.fields()["language"] == "sv"
    assert cart.fields()["visitorId"] == "v"
    assert "contactId" not in cart.fields()
    partitions = {decode(value).type: partition for partition, value in await shop.log()}
    assert partitions["cart"] == partition_of("c-1", 4)
    assert partitions["sale"] == partition_of("u-1", 4)


async def test_views_from_before_the_contact_become_product_events() -> None:
    shop = Shop()
    views = [
        {"id": "r-1", "time": at(-HOUR), "itemId": "A", "url": "https://shop.example/a"},
        {"id": "r-2", "time": at(-30 * HOUR), "itemId": "B"},
        {"id": "r-3", "time": at(-5), "itemId": "C", "category": "Shoes"},
        {
            "id": "r-4",
            "time": at(-6),
            "itemId": "D",
            "referrer": "https://search.example",
            "utm": {"utm_source": "search"},
        },
    ]
    customer = event("customer", recent=views, contactId="c-9")
    came = await shop.taken(
        customer,
        **FULL,
        url="https://shop.example/now",
        referrer="https://x.example",
        utm={"utm_source": "newsletter"},
    )
    assert outcomes(came) == ["accepted"]
    found = {each.id: each for each in await shop.envelopes() if each.derived}
    assert set(found) == {"r-1", "r-3", "r-4"}, "a view older than the window is not made again"
    first = found["r-1"]
    assert first.derived is not None
    assert (first.derived.kind, first.derived.cause) == ("recent", "e-1")
    assert first.dedup_key == "recent:shop:r-1"
    assert first.corrected_ms == NOW - HOUR
    assert first.fields()["contactId"] == "c-9"
    assert first.fields()["url"] == "https://shop.example/a"
    assert first.fields()["itemId"] == "A"
    for name in ("url", "referrer", "utm"):
        assert name not in found["r-3"].fields(), "what led to the request led to no earlier view"
    assert found["r-4"].fields()["utm"] == {"utm_source": "search"}
    assert found["r-4"].fields()["referrer"] == "https://search.example"
    partitions = {decode(value).id: partition for partition, value in await shop.log()}
    assert partitions["r-1"] == partition_of("r-1", 4)


@pytest.mark.parametrize(
    ("who", "context", "receipt", "made"),
    [
        ({"contactId": "c"}, {}, BROWSER, 1),
        ({"eclub": "e"}, {}, BROWSER, 1),
        ({}, {"contactId": "c"}, BROWSER, 1),
        ({}, {}, BROWSER, 0),
        ({"contactId": None}, {"contactId": "c"}, BROWSER, 0),
        ({"contactId": "c"}, {}, has({"contactId": "c"}), 0),
    ],
)
async def test_views_are_made_once_when_the_contact_becomes_known(
    who: dict[str, Any], context: dict[str, Any], receipt: Receipt, made: int
) -> None:
    shop = Shop()
    view = {"id": "r-1", "time": at(), "itemId": "A"}
    await shop.taken(event("customer", recent=[view], **who), receipt=receipt, **FULL, **context)
    assert [each.derived is not None for each in await shop.envelopes()].count(True) == made


@given(
    clock=st.sampled_from([0, -9000, 9000, 3 * HOUR]),
    seen=st.lists(st.integers(-30_000, -1), max_size=3, unique=True),
    known=st.integers(-30_000, 0),
    came=st.sampled_from(["in time", "late"]),
)
async def test_a_view_reaches_the_contact_once_whenever_the_cookie_came(
    clock: int, seen: list[int], known: int, came: str
) -> None:
    """Whether views arrive before the cookie is set, or waited and arrive with it."""
    shop = Shop()
    cookie = BROWSER._replace(cookies={"contactId": "c"}, contact_since_ms=NOW + known)
    views = [event("product", number, time=at(clock + when)) for number, when in enumerate(seen, 1)]
    for when, view in zip(seen, views, strict=True):
        receipt = BROWSER if came == "in time" and when < known else cookie
        await shop.taken(view, receipt=receipt, sent=at(clock), **FULL)
    recent = [{name: view[name] for name in ("id", "time", "itemId")} for view in views]
    customer = event("customer", 9, time=at(clock), recent=recent, contactId="c")
    await shop.taken(customer, receipt=cookie, sent=at(clock), **FULL)
    told = [
        each.id
        for each in await shop.envelopes()
        if each.type == "product" and each.fields().get("contactId") == "c"
    ]
    assert sorted(told) == sorted(view["id"] for view in views)


async def test_what_the_request_says_of_the_contact_goes_before_the_cookie() -> None:
    shop = Shop()
    receipt = BROWSER._replace(cookies={"contactId": "old"}, contact_since_ms=NOW)
    await shop.taken(event("product", contactId="c"), receipt=receipt, **FULL)
    await shop.taken(event("product", 2), receipt=receipt, **FULL, contactId="c")
    assert {each.fields()["contactId"] for each in await shop.envelopes()} == {"c"}


async def test_a_derived_view_takes_the_corrected_clock() -> None:
    shop = Shop()
    view = {"id": "r-1", "time": at(5 * HOUR - 9000), "itemId": "A"}
    customer = event("customer", time=at(5 * HOUR), recent=[view], contactId="c")
    await shop.taken(customer, sent=at(5 * HOUR), **FULL)
    (derived,) = [each for each in await shop.envelopes() if each.derived]
    assert derived.corrected_ms == NOW - 9000


# Routing


async def test_routing_uses_what_consent_drops_and_never_cookies() -> None:
    shop = Shop(partitions=64)
    await shop.taken(event("lead"), event(number=2), sessionId="s-1")
    found = {decode(value).type: partition for partition, value in await shop.log()}
    assert found == {"lead": partition_of("u-1", 64), "page": partition_of("s-1", 64)}
    shop = Shop(partitions=64)
    await shop.taken(event(), receipt=has({"visitorId": "cookie"}), **FULL)
    ((partition, _),) = await shop.log()
    assert partition == partition_of("e-1", 64)


# Duplicates


async def test_a_retry_is_answered_as_a_duplicate_and_not_written_again() -> None:
    shop = Shop()
    assert outcomes(await shop.taken(event(), event())) == ["accepted", "duplicate"]
    assert outcomes(await shop.taken(event(), event(number=2))) == ["duplicate", "accepted"]
    assert len(await shop.log()) == 2
    assert shop.buffer.publishes == 2


async def test_equal_ids_at_two_sites_are_two_events() -> None:
    shop = Shop()
    other = BROWSER._replace(origin="https://other.example")
    await shop.taken(event())
    assert outcomes(await shop.taken(event(), receipt=other, key="pk_other")) == ["accepted"]


async def test_a_sale_that_differs_reaches_the_log() -> None:
    shop = Shop()
    sale = event("sale", invoiceId="o-1", currency="SEK")
    assert outcomes(await shop.taken(sale, **FULL)) == ["accepted"]
    same = {**sale, "id": "e-2", "currency": "sek"}
    assert outcomes(await shop.taken(same, **FULL)) == ["duplicate"]
    differs = {**sale, "id": "e-3", "amount": 5000}
    assert outcomes(await shop.taken(differs, **FULL)) == ["accepted"]
    found = await shop.envelopes()
    assert [each.dedup_key for each in found] == ["sale:shop:o-1"] * 2


async def test_a_key_counts_no_longer_than_the_window() -> None:
    shop = Shop()
    await shop.taken(event())
    shop.clock.ms += 86_400_001
    late = BROWSER._replace(received_ms=shop.clock.ms)
    assert outcomes(await shop.taken(event(time=at(HOUR * 24)), receipt=late)) == ["accepted"]


# Rule 1: answer only after publish


async def test_nothing_is_answered_before_the_buffer_has_acknowledged() -> None:
    shop = Shop()
    shop.buffer.hold(Log.EVENTS, written=True)
    answer = asyncio.ensure_future(shop.taken(event()))
    for _ in range(50):
        await asyncio.sleep(0)
    assert shop.buffer.publishes == 1
    assert not answer.done()
    shop.buffer.release()
    assert outcomes(await answer) == ["accepted"]


@pytest.mark.parametrize("error", [BufferUnavailableError("away"), BufferFullError("full")])
@pytest.mark.parametrize("copies", [0, 1])
async def test_a_failed_write_refuses_the_whole_request_and_its_retry_is_written(
    error: BufferUnavailableError, copies: int
) -> None:
    shop = Shop()
    shop.buffer.fail_next(Log.EVENTS, error=error, written=bool(copies))
    came = await shop.post(event(), {"bad": 1})
    assert isinstance(came, Refused)
    assert came.problem is Problem.UNAVAILABLE
    assert outcomes(await shop.taken(event())) == ["accepted"]
    assert len(await shop.log()) == 1 + copies


async def test_a_late_answer_refuses_the_request_and_its_retry_is_written() -> None:
    shop = Shop(publish_seconds=0.02)
    shop.buffer.hold(Log.EVENTS, written=True)
    came = await shop.post(event())
    assert isinstance(came, Refused)
    assert came.problem is Problem.UNAVAILABLE
    shop.buffer.release()
    assert outcomes(await shop.taken(event())) == ["accepted"]
    assert len(await shop.log()) == 2


async def test_a_twin_in_flight_waits_for_the_same_write() -> None:
    shop = Shop()
    shop.buffer.hold(Log.EVENTS)
    first = asyncio.ensure_future(shop.taken(event()))
    await asyncio.sleep(0)
    twin = asyncio.ensure_future(shop.taken(event(), event(number=2)))
    alone = asyncio.ensure_future(shop.taken(event()))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not twin.done()
    assert not alone.done()
    shop.buffer.release()
    assert outcomes(await first) == ["accepted"]
    assert outcomes(await twin) == ["duplicate", "accepted"]
    assert outcomes(await alone) == ["duplicate"]
    assert len(await shop.log()) == 2


async def test_a_twin_of_a_write_that_fails_is_refused_too() -> None:
    shop = Shop()
    first = asyncio.ensure_future(shop.post(event()))
    twin = asyncio.ensure_future(shop.post(event()))
    await asyncio.sleep(0)
    shop.buffer.outage = True
    for came in await asyncio.gather(first, twin):
        assert isinstance(came, Refused)
        assert came.problem is Problem.UNAVAILABLE
    shop.buffer.outage = False
    assert outcomes(await shop.taken(event())) == ["accepted"]


@pytest.mark.parametrize("gap_seconds", [0, 0.01])
async def test_a_twin_of_a_write_that_is_late_is_refused_too(gap_seconds: float) -> None:
    shop = Shop(publish_seconds=0.03)
    shop.buffer.hold(Log.EVENTS)
    first = asyncio.ensure_future(shop.post(event()))
    await asyncio.sleep(gap_seconds)  # without one, both their times are up at once
    twin = asyncio.ensure_future(shop.post(event()))
    for came in await asyncio.gather(first, twin):
        assert isinstance(came, Refused)
        assert came.problem is Problem.UNAVAILABLE
    shop.buffer.release()
    assert outcomes(await shop.taken(event())) == ["accepted"]


async def test_a_request_is_one_write() -> None:
    shop = Shop()
    await shop.taken(
        *(event(number=each) for each in range(50)), event("sale", "s", cartReference="c"), **FULL
    )
    assert shop.buffer.publishes == 1
    assert len(await shop.log()) == 52


async def test_an_error_of_the_gateways_own_is_not_hidden() -> None:
    shop = Shop()
    shop.buffer.fail_next(Log.EVENTS, error=RuntimeError("a bug"))  # type: ignore[arg-type]  # not a buffer's error
    with pytest.raises(RuntimeError, match="a bug"):
        await shop.post(event())


# Rejected events are kept


async def letters(shop: Shop) -> list[dead.DeadLetter]:
    return [dead.decode_letter(value) for _, value in await shop.log(Log.DEAD)]


async def test_a_rejected_event_is_kept_as_it_was_posted_and_can_be_taken_again() -> None:
    shop = Shop()
    shop.ingest.start()
    bad = event("sale", amount=1.5, url="https://shop.example/?vtid=x&a=1")
    before = REJECTIONS.labels("shop", "wrong_type")._value.get()
    await shop.taken(bad, sent=at(), **FULL, visitorId="v")
    assert REJECTIONS.labels("shop", "wrong_type")._value.get() == before + 1
    await shop.ingest.stop()
    (letter,) = await letters(shop)
    assert (letter.destination, letter.site, letter.reason) == ("ingest", "shop", "wrong_type")
    assert letter.event == {
        "event": {**bad, "url": "https://shop.example/?a=1"},
        "context": {"consent": "full", "visitorId": "v"},
        "sentAt": at(),
        "receivedAt": NOW,
        "server": False,
    }
    again = await shop.ingest.again(letter)
    assert isinstance(again, Taken)
    assert outcomes(again) == ["rejected"]
    letter.event["event"]["amount"] = 150
    mended = await shop.ingest.again(letter)
    assert isinstance(mended, Taken)
    assert outcomes(mended) == ["accepted"]
    assert (await shop.only()).context == {"visitorId": "v"}
    gone = await shop.ingest.again(replace(letter, site="gone"))
    assert gone == Refused(Problem.UNKNOWN_KEY)


async def test_with_limited_consent_a_rejected_event_is_kept_without_what_may_be_personal() -> None:
    shop = Shop()
    shop.ingest.start()
    bad = event("sale", amount=1.5, customerEmail="ann@shop.example", email="ann@shop.example")
    await shop.taken(bad, "ann@shop.example", {"x": 1}, visitorId="v", mail="ann@shop.example")
    await shop.ingest.stop()
    assert len(await letters(shop)) == 3
    text = b"".join(value for _, value in await shop.log(Log.DEAD))
    assert b"ann@" not in text
    assert b"u-1" not in text
    assert b'"amount":1.5' in text


async def test_what_is_too_large_or_too_deep_is_kept_by_id_only() -> None:
    shop = Shop()
    shop.ingest.start()
    large = event("page", title="x" * 70_000)
    body = orjson.dumps({"key": "pk_shop", "context": FULL, "events": [large, ["y" * 70_000]]})
    await shop.ingest.take(body, BROWSER)
    body = b'{"key":"pk_shop","context":{"consent":"full","x":%s},"events":[{"type":"page"}]}'
    await shop.ingest.take(body % (b"[" * 300 + b"]" * 300), BROWSER)
    await shop.ingest.stop()
    kept = [(each.event["event"], each.event["context"]) for each in await letters(shop)]
    assert kept == [
        ({"id": "e-1", "type": "page"}, FULL),
        (None, FULL),
        ({"type": "page"}, FULL),
    ]


async def test_rejected_events_are_capped_by_site_and_minute() -> None:
    shop = Shop()
    shop.ingest.start()
    other = BROWSER._replace(origin="https://other.example")
    bad = [{"bad": each} for each in range(10)]
    await shop.taken(*bad, receipt=other, key="pk_other")
    await shop.taken({"bad": 1})
    later = other._replace(received_ms=NOW + 60_000)
    await shop.taken(*bad, receipt=later, key="pk_other")
    await shop.ingest.stop()
    sites = [each.site for each in await letters(shop)]
    assert sorted(sites) == ["other"] * 6 + ["shop"]


@pytest.mark.parametrize(
    ("key", "receipt"), [("pk_none", BROWSER), ("pk_shop", BROWSER._replace(origin="https://x"))]
)
async def test_nothing_is_kept_from_an_unknown_key_or_origin(key: str, receipt: Receipt) -> None:
    shop = Shop()
    shop.ingest.start()
    await asyncio.sleep(0)
    assert isinstance(await shop.post({"bad": 1}, key=key, receipt=receipt), Refused)
    await shop.ingest.stop()
    assert not await letters(shop)


async def test_the_answer_does_not_wait_for_rejected_events_to_be_kept() -> None:
    shop = Shop(publish_seconds=0.05)
    shop.ingest.start()
    shop.buffer.hold(Log.DEAD)
    async with asyncio.timeout(1):
        assert outcomes(await shop.taken({"bad": 1}, event())) == ["rejected", "accepted"]
    await shop.ingest.stop()
    assert not await letters(shop)


async def test_rejected_events_wait_for_the_buffer_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("gateway.ingest.KEEP_AGAIN_SECONDS", 0.001)
    shop = Shop()
    shop.ingest.start()
    shop.buffer.fail_next(Log.DEAD, times=3)
    await shop.taken({"bad": 1})
    await shop.ingest.stop()
    assert len(await letters(shop)) == 1


@pytest.mark.parametrize(("bound", "most"), [("KEPT_LETTERS", 2), ("KEPT_BYTES", 600)])
async def test_no_more_rejected_events_wait_than_there_is_room_for(
    bound: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"gateway.ingest.{bound}", most)
    shop = Shop()
    shop.ingest.start()
    shop.buffer.hold(Log.DEAD)
    await shop.taken(*({"bad": each} for each in range(10)))
    shop.buffer.release()
    async with asyncio.timeout(5):
        while len(await letters(shop)) < 2:
            await asyncio.sleep(0.005)
    await shop.taken(*({"bad": each} for each in range(10)))
    await shop.ingest.stop()
    assert len(await letters(shop)) == 4  # there is room again


async def test_an_ingest_that_was_never_started_can_be_stopped() -> None:
    await Shop().ingest.stop()


# Settings


@pytest.mark.parametrize(
    "origin", ["shop.example", "https://shop.example/", "https://Shop.example", "*", "null"]
)
def test_an_origin_is_written_as_browsers_send_it(origin: str) -> None:
    with pytest.raises(ValidationError):
        SiteSettings(origins=(origin,))


def test_server_keys_are_not_shown() -> None:
    assert "sk_secret" not in repr(SITES["shop"])
