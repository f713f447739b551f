"""Voyado: what becomes of carts and views, and what its answers mean."""

import base64
from typing import Any

import orjson
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.padding import PKCS7

from gateway.adapters.destinations.voyado import VoyadoDestination, VoyadoSettings, open_eclub
from gateway.model.attempt import Again, Answered, Done, Item, Skip, Unanswered, Verdict
from gateway.model.envelope import Derived, Envelope
from gateway.model.outcome import Outcome, Reason
from tests.sample import CONTEXT, NOW_MS, StoppedClock, envelope

ECLUB_KEY = "abcdefghijklmnopqrstuvwxyzABCD01"
CONTACT = CONTEXT["contactId"]


class OneAnswer:
    """An HttpClient that keeps the request and gives one answer."""

    def __init__(self, answer: Answered | Unanswered) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []

    async def exchange(
        self, method: str, url: str, headers: dict[str, str], body: bytes, timeout_seconds: float
    ) -> Answered | Unanswered:
        assert timeout_seconds == 10.0
        self.asked.append((method, url, headers, body))
        return self.answer


def voyado(http: OneAnswer | None = None, **chosen: Any) -> VoyadoDestination:
    settings = {"kind": "voyado", "base_url": "https://c.voyado.com/", "api_key": "k", **chosen}
    http = http or OneAnswer(Answered(200, None, b""))
    return VoyadoDestination(VoyadoSettings.model_validate(settings), http, StoppedClock())


def prepare(event: Envelope, time_ms: int = NOW_MS, **chosen: Any) -> Item | Skip:
    return voyado(**chosen).prepare(event, time_ms)


def body(event: Envelope, time_ms: int = NOW_MS, **chosen: Any) -> dict[str, Any]:
    item = prepare(event, time_ms, **chosen)
    assert isinstance(item, Item)
    made: dict[str, Any] = item.body
    return made


def test_a_cart_has_the_names_and_the_order_of_voyados_model() -> None:
    item = prepare(envelope("cart", url="https://shop.example/cart?id=c-1"))
    assert item == Item(
        "carts",
        key="shop/c-1",
        repeatable=True,
        max_age_seconds=86_400.0,
        body={
            "cartReference": "c-1",
            "time": "2026-03-02T10:15:00+00:00",
            "contactId": CONTACT,
            "language": "sv-SE",
            "url": "https://shop.example/cart?id=c-1",
            "items": [{"sku": "SKU-1", "quantity": 2}],
        },
    )
    assert list(item.body) == ["cartReference", "time", "contactId", "language", "url", "items"]


def test_a_view_carries_what_is_known_of_it_and_is_never_repeated() -> None:
    context = {
        **CONTEXT,
        "sessionId": "s-77",
        "url": "https://shop.example/p/sku-1",
        "referrer": "https://search.example",
        "utm": {"utm_source": "newsletter", "utm_campaign": "spring"},
    }
    assert prepare(envelope("product", context, newSession=True)) == Item(
        "productviews",
        key=None,
        repeatable=False,
        body={
            "itemId": "SKU-1",
            "contactId": CONTACT,
            "category": "Shoes > Running",
            "time": "2026-03-02T10:15:00+00:00",
            "sessionId": "s-77",
            "newSession": True,
            "language": "sv-SE",
            "url": "https://shop.example/p/sku-1",
            "externalReferrer": "https://search.example",
            "utm": [
                {"key": "utm_source", "value": "newsletter"},
                {"key": "utm_campaign", "value": "spring"},
            ],
        },
    )


def test_the_time_sent_is_the_one_asked_for_in_the_precision_chosen() -> None:
    cart = envelope("cart")
    assert body(cart, NOW_MS + 61_000)["time"] == "2026-03-02T10:16:01+00:00"
    milliseconds = body(cart, NOW_MS, time_precision="milliseconds")["time"]
    assert milliseconds == "2026-03-02T10:15:00.120+00:00"
    assert voyado().cart_step_ms == 1000
    assert voyado(time_precision="milliseconds").cart_step_ms == 1


@pytest.mark.parametrize(
    ("referrer", "sent"),
    [
        ("https://search.example/?q=shoes", "https://search.example/?q=shoes"),
        ("https://shop.example/p/2", None),
        ("https://SHOP.example", None),
        ("https://blog.shop.example/", "https://blog.shop.example/"),
        ("android-app://com.example", "android-app://com.example"),
        ("https://[", "https://["),
        (None, None),
    ],
)
def test_a_referrer_of_the_shops_own_host_is_not_external(
    referrer: str | None, sent: str | None
) -> None:
    context = {**CONTEXT, "url": "https://shop.example/p/1", "referrer": referrer}
    assert body(envelope("product", context)).get("externalReferrer") == sent


def test_a_referrer_is_external_where_the_page_is_not_known() -> None:
    made = body(envelope("product", {**CONTEXT, "referrer": "https://search.example"}))
    assert made["externalReferrer"] == "https://search.example"


@pytest.mark.parametrize("contact", ["undefined", "null"])
def test_what_a_script_makes_of_a_missing_id_is_no_contact(contact: str) -> None:
    assert prepare(envelope("product", {"contactId": contact})) == Skip(Reason.NO_CONTACT)


@pytest.mark.parametrize(
    "contact", [CONTACT, CONTACT.upper(), "DQwLCgkICAcGBQQDAgEABg", "short_guid-1"]
)
def test_a_contact_goes_out_as_it_came_in(contact: str) -> None:
    assert body(envelope("product", {"contactId": contact}))["contactId"] == contact


@pytest.mark.parametrize("event_type", ["cart", "product"])
def test_without_a_contact_nothing_is_sent_and_consent_is_named_where_it_is_the_cause(
    event_type: str,
) -> None:
    context = {"language": "sv-SE"}
    assert prepare(envelope(event_type, context)) == Skip(Reason.NO_CONTACT)
    assert prepare(envelope(event_type, context, consent="limited")) == Skip(Reason.NO_CONSENT)


@pytest.mark.parametrize("event_type", ["cart", "product"])
def test_with_limited_consent_a_contact_is_not_used_even_if_it_were_there(event_type: str) -> None:
    assert prepare(envelope(event_type, consent="limited")) == Skip(Reason.NO_CONSENT)


def test_a_cart_with_items_needs_a_language_and_a_view_does_not() -> None:
    context = {"contactId": CONTACT}
    assert prepare(envelope("cart", context)) == Skip(Reason.NO_LANGUAGE)
    assert isinstance(prepare(envelope("product", context)), Item)


@pytest.mark.parametrize("consent", ["full", "limited"])
@pytest.mark.parametrize("derived", [None, Derived("close", "sale-1")])
def test_an_emptied_cart_goes_out_without_contact_and_language_at_any_age(
    consent: Any, derived: Derived | None
) -> None:
    item = prepare(envelope("cart", {}, consent=consent, derived=derived, items=[]))
    assert isinstance(item, Item)
    assert item.body == {
        "cartReference": "c-1",
        "time": "2026-03-02T10:15:00+00:00",
        "items": [],
    }
    assert item.max_age_seconds is None


def test_an_emptied_cart_names_the_contact_when_it_is_known() -> None:
    assert body(envelope("cart", items=[]))["contactId"] == CONTACT


def test_a_cart_of_another_site_is_another_cart() -> None:
    cart = envelope("cart")
    other = Envelope("other", "key", NOW_MS, NOW_MS, "full", cart.event, cart.context)
    items = [prepare(cart), prepare(other)]
    assert len({item.key for item in items if isinstance(item, Item)}) == 2


@pytest.mark.parametrize(
    ("language", "sent"),
    [
        ("sv", "sv-SE"),
        ("sv-FI", "sv-SE"),
        ("SV-fi", "sv-SE"),
        ("sv-AX", "sv-FI"),
        ("sv_AX", "sv-FI"),
        ("nb-NO", "nb-NO"),
        ("nb_NO", "nb_NO"),
        ("svx", "svx"),
    ],
)
def test_the_language_is_mapped_whole_then_by_its_first_part_then_not_at_all(
    language: str, sent: str
) -> None:
    cart = envelope("cart", {"contactId": CONTACT, "language": language})
    assert body(cart, languages={"sv": "sv-SE", "sv-AX": "sv-FI"})["language"] == sent


def test_other_events_are_nothing_to_send() -> None:
    assert prepare(envelope("sale")) == Skip(Reason.NOTHING_TO_SEND)


def test_it_wants_the_views_from_before_the_contact_was_known() -> None:
    assert voyado().needs_contact
    assert isinstance(prepare(envelope("product", derived=Derived("recent", "e-0"))), Item)


# eclub


def seal(plain: bytes, key: str = ECLUB_KEY) -> str:
    padder = PKCS7(128).padder()
    padded = padder.update(plain) + padder.finalize()
    iv = bytes(range(16))
    cipher = Cipher(AES256(key.encode()), CBC(iv)).encryptor()
    sealed = iv + cipher.update(padded) + cipher.finalize()
    return base64.urlsafe_b64encode(sealed).decode()


GENUINE = seal(b'{"contactid": "short-guid", "email": "a@x.example", "dateTime": "2026-03-02"}')


@pytest.mark.parametrize("eclub", [GENUINE, GENUINE.rstrip("=")])
def test_the_contact_in_an_eclub_is_used_when_the_event_names_none(eclub: str) -> None:
    view = envelope("product", {"eclub": eclub})
    assert body(view, eclub_key=ECLUB_KEY)["contactId"] == "short-guid"


def test_the_events_own_contact_wins_over_its_eclub() -> None:
    view = envelope("product", {**CONTEXT, "eclub": GENUINE})
    assert body(view, eclub_key=ECLUB_KEY)["contactId"] == CONTACT


def test_without_a_key_or_with_limited_consent_an_eclub_is_not_opened() -> None:
    view = envelope("product", {"eclub": GENUINE})
    assert prepare(view) == Skip(Reason.NO_CONTACT)
    limited = envelope("product", {"eclub": GENUINE}, consent="limited")
    assert prepare(limited, eclub_key=ECLUB_KEY) == Skip(Reason.NO_CONSENT)


@pytest.mark.parametrize(
    "eclub",
    [
        "",
        "!",
        "å",
        "A" * 21,
        GENUINE[:-8],
        GENUINE[:40] + "A" + GENUINE[41:],
        base64.urlsafe_b64encode(bytes(16)).decode(),
        base64.urlsafe_b64encode(bytes(32)).decode(),
        seal(GENUINE.encode(), ECLUB_KEY[::-1]),
        seal(b"[]"),
        seal(b"{}"),
        seal(b'{"contactId": null}'),
        seal(b'{"contactId": 7}'),
        seal(b'{"contactId": ""}'),
        seal(b'{"contactId": "a\\nb"}'),
        seal(orjson.dumps({"contactId": "x" * 65})),
    ],
)
def test_an_eclub_that_is_not_genuine_is_no_contact(eclub: str) -> None:
    assert open_eclub(eclub, ECLUB_KEY) is None
    view = envelope("product", {"eclub": eclub})
    assert prepare(view, eclub_key=ECLUB_KEY) == Skip(Reason.NO_CONTACT)


@pytest.mark.parametrize("key", ["", "short", "å" * 32, "-" * 32, "a" * 33])
def test_a_key_of_another_form_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="32 characters"):
        voyado(eclub_key=key)


# requests and answers


async def test_a_batch_is_a_bare_array_posted_with_voyados_headers() -> None:
    http = OneAnswer(Answered(200, None, b""))
    destination = voyado(http, user_agent="Shop/1.0")
    items = [destination.prepare(envelope("cart", items=[]), NOW_MS + n * 1000) for n in range(3)]
    request = destination.request([item for item in items if isinstance(item, Item)])
    reply = await destination.send(request)
    ((method, url, headers, sent),) = http.asked
    assert (method, url) == ("POST", "https://c.voyado.com/api/v2/tracking/carts/batch")
    assert headers == {
        "apikey": "k",
        "User-Agent": "Shop/1.0",
        "Content-Type": "application/json",
    }
    assert [cart["time"][17:19] for cart in orjson.loads(sent)] == ["00", "01", "02"]
    assert request.endpoint == "carts/batch"
    assert reply.verdicts == (Done(Outcome.DELIVERED),) * 3


@pytest.mark.parametrize(("event_type", "path"), [("cart", "carts"), ("product", "productview")])
async def test_one_alone_goes_as_an_object_by_the_path_for_one(event_type: str, path: str) -> None:
    http = OneAnswer(Answered(200, None, b""))
    destination = voyado(http)
    item = destination.prepare(envelope(event_type), NOW_MS)
    assert isinstance(item, Item)
    request = destination.request([item])
    reply = await destination.send(request)
    assert http.asked[0][1] == f"https://c.voyado.com/api/v2/tracking/{path}"
    assert orjson.loads(http.asked[0][3]) == item.body
    assert request.endpoint == path
    assert reply.verdicts == (Done(Outcome.DELIVERED),)


async def test_the_path_before_the_endpoint_is_a_setting() -> None:
    http = OneAnswer(Answered(200, None, b""))
    await verdicts(http, 1, path_prefix="/api/v3/tracking")
    assert http.asked[0][1] == "https://c.voyado.com/api/v3/tracking/productview"


async def verdicts(http: OneAnswer, count: int, **chosen: Any) -> tuple[Verdict, ...]:
    destination = voyado(http, **chosen)
    item = destination.prepare(envelope("product"), NOW_MS)
    assert isinstance(item, Item)
    return (await destination.send(destination.request([item] * count))).verdicts


@pytest.mark.parametrize("code", [200, 201, 202, 204])
async def test_any_2xx_is_a_success_whatever_the_body(code: int) -> None:
    http = OneAnswer(Answered(code, None, b'{"request": nonsense'))
    assert await verdicts(http, 2) == (Done(Outcome.DELIVERED),) * 2


NOT_FOUND = b'{"errorCode": "ContactNotFound", "message": "No such contact"}'


@pytest.mark.parametrize(
    ("code", "said"), [(400, b"bad"), (404, NOT_FOUND), (413, b""), (422, b'{"a": 1}')]
)
async def test_a_refused_batch_is_split_at_once_and_a_refused_item_dead(
    code: int, said: bytes
) -> None:
    http = OneAnswer(Answered(code, None, said))
    split = Again(Reason.SPLIT, after_seconds=0.0, detail=f"HTTP {code}")
    assert await verdicts(http, 3) == (split,) * 3
    detail = said.decode() or f"HTTP {code}"
    assert await verdicts(http, 1) == (Done(Outcome.DEAD, Reason.REFUSED, detail),)


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize(
    ("code", "said"),
    [(404, b""), (404, b'{"Message": "No HTTP resource was found"}'), (301, b""), (401, b"")],
)
async def test_a_wrong_address_or_key_buries_nothing(count: int, code: int, said: bytes) -> None:
    made = await verdicts(OneAnswer(Answered(code, None, said)), count)
    assert {verdict.reason for verdict in made} == {Reason.UNAUTHORIZED}
    assert all(isinstance(verdict, Again) for verdict in made)


async def test_the_500_of_a_missing_content_type_is_no_verdict_on_the_event() -> None:
    (verdict,) = await verdicts(OneAnswer(Answered(500, None, b"An error has occurred")), 1)
    assert isinstance(verdict, Again)
    assert verdict.reason is Reason.UNAVAILABLE


def test_by_default_it_stays_below_voyados_recommended_rate_with_batches_of_100() -> None:
    settings = VoyadoSettings.model_validate(
        {"kind": "voyado", "base_url": "https://c.voyado.com", "api_key": "k"}
    )
    assert settings.rate_per_second < 50
    assert {voyado().batch_limit(kind) for kind in ("carts", "productviews")} == {100}


@pytest.mark.parametrize("events", [["lead"], ["product", "page"]])
def test_types_that_voyado_does_not_know_are_refused_as_a_setting(events: list[str]) -> None:
    with pytest.raises(ValueError, match="events"):
        voyado(events=events)
