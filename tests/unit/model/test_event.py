"""Every row of the field table in DESIGN, its limits at both sides, and what a refusal says."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from gateway.model.event import CONTEXT, EVENT, FIELDS, PERSONAL, TYPES, deeper_than
from gateway.model.outcome import Rejection
from gateway.model.refusal import Refusal, refusal_of

BASE = {"id": "018f-1", "time": "2026-11-21T10:14:58.031+01:00"}
EVENTS: dict[str, dict[str, Any]] = {
    "page": {**BASE, "type": "page"},
    "product": {**BASE, "type": "product", "itemId": "SKU-1"},
    "cart": {
        **BASE,
        "type": "cart",
        "cartReference": "c-1",
        "items": [{"sku": "SKU-1", "quantity": 2}],
    },
    "lead": {**BASE, "type": "lead", "eventName": "Sign up"},
    "sale": {**BASE, "type": "sale", "amount": 4990},
    "customer": {**BASE, "type": "customer"},
    "custom": {**BASE, "type": "custom", "eventName": "Wishlist"},
}
VIEW = {**BASE, "itemId": "SKU-1"}
ITEM = {"sku": "SKU-1", "quantity": 1}
ALL = TYPES
PEOPLE = ("lead", "sale", "customer")


def refused(event: object) -> Refusal:
    with pytest.raises(ValidationError) as caught:
        EVENT.validate_python(event)
    return refusal_of(caught.value)


def many(number: int, size: int = 1, prefix: str = "") -> dict[str, str]:
    return {f"{prefix}{index}": "v" * size for index in range(number)}


# field, the types that have it, values that go through, values over a limit
ROWS: list[tuple[str, tuple[str, ...], list[Any], list[Any]]] = [
    ("visitorId", ALL, ["v" * 100], ["v" * 101]),
    ("sessionId", ALL, ["s" * 100], ["s" * 101]),
    ("newSession", ("product",), [True, False], []),
    ("contactId", ALL, ["c" * 64], ["c" * 65]),
    ("eclub", ALL, ["e" * 1024], ["e" * 1025]),
    ("customerId", ALL, ["u" * 100], ["u" * 101]),
    ("clickId", ALL, ["k" * 100], ["k" * 101]),
    (
        "adClickIds",
        ALL,
        [{}, many(10), {"g" * 32: "v" * 500}],
        [many(11), {"g" * 33: "v"}, {"gclid": "v" * 501}],
    ),
    ("mailReference", ALL, ["m" * 100], ["m" * 101]),
    ("language", ALL, ["sv-SE", "l" * 35], ["l" * 36]),
    ("url", ALL, ["", "u" * 2048], ["u" * 2049]),
    ("referrer", ALL, ["", "r" * 2048], ["r" * 2049]),
    (
        "utm",
        ALL,
        [{}, many(10, 255, "utm_"), {"utm_" + "n" * 28: ""}],
        [many(11, 1, "utm_"), {"utm_" + "n" * 29: "v"}, {"utm_source": "v" * 256}],
    ),
    ("itemId", ("product",), ["i" * 100], ["i" * 101]),
    ("category", ("product",), ["", "c" * 500], ["c" * 501]),
    ("title", ("page",), ["", "t" * 500], ["t" * 501]),
    ("cartReference", ("cart", "sale"), ["c" * 100], ["c" * 101]),
    (
        "items",
        ("cart",),
        [[], [ITEM] * 500, [{"sku": "s" * 100, "quantity": 999_999}]],
        [[ITEM] * 501, [{"sku": "s" * 101, "quantity": 1}], [{"sku": "s", "quantity": 0}]],
    ),
    ("eventName", ("lead", "sale", "custom"), ["n" * 255], ["n" * 256]),
    ("customerName", PEOPLE, ["", "n" * 100], ["n" * 101]),
    (
        "customerEmail",
        PEOPLE,
        ["ann@shop.example", "a" * 87 + "@shop.example"],
        ["a" * 88 + "@shop.example"],
    ),
    ("customerAvatar", PEOPLE, ["a" * 2048], ["a" * 2049]),
    ("country", ("customer",), ["SE", "se"], []),
    ("stripeCustomerId", ("customer",), ["s" * 100], ["s" * 101]),
    ("mode", ("lead",), ["async", "wait", "deferred"], []),
    ("eventQuantity", ("lead",), [1, 100], [0, 101]),
    ("amount", ("sale",), [0, 10**12], [-1, 10**12 + 1]),
    ("currency", ("sale",), ["sek", "SEK", "Sek"], []),
    ("invoiceId", ("sale",), ["i" * 100], ["i" * 101]),
    ("leadEventName", ("sale",), ["n" * 255], ["n" * 256]),
    (
        "paymentProcessor",
        ("sale",),
        [
            "stripe",
            "shopify",
            "polar",
            "paddle",
            "apple",
            "revenuecat",
            "lemonsqueezy",
            "dub",
            "custom",
        ],
        [],
    ),
    ("metadata", ALL, [{}, {"m": "x" * 9_992}], [{"m": "x" * 9_993}]),
    ("recent", ("customer",), [[], [VIEW] * 25], [[VIEW] * 26]),
]
NAMES = [row[0] for row in ROWS]
REQUIRED = {
    "page": ["id", "time"],
    "product": ["id", "time", "itemId"],
    "cart": ["id", "time", "cartReference", "items"],
    "lead": ["id", "time", "eventName"],
    "sale": ["id", "time", "amount"],
    "customer": ["id", "time"],
    "custom": ["id", "time", "eventName"],
}


@pytest.mark.parametrize(("name", "types", "good", "_over"), ROWS, ids=NAMES)
def test_a_field_is_taken_unchanged_up_to_its_limit_on_the_types_that_have_it(
    name: str, types: tuple[str, ...], good: list[Any], _over: list[Any]
) -> None:
    for kind in types:
        for value in good:
            event = {**EVENTS[kind], name: value}
            assert EVENT.validate_python(event) == event


@pytest.mark.parametrize(("name", "types", "_good", "over"), ROWS, ids=NAMES)
def test_beyond_its_limit_the_event_is_refused_naming_the_field(
    name: str, types: tuple[str, ...], _good: list[Any], over: list[Any]
) -> None:
    for value in over:
        refusal = refused({**EVENTS[types[0]], name: value})
        assert refusal.reason is Rejection.OVER_LIMIT
        assert refusal.field is not None
        assert refusal.field.split(".")[0].split("[")[0] == name
        assert name in refusal.message


@pytest.mark.parametrize(("name", "types", "good", "_over"), ROWS, ids=NAMES)
def test_a_field_is_unknown_on_the_types_that_lack_it(
    name: str, types: tuple[str, ...], good: list[Any], _over: list[Any]
) -> None:
    for kind in set(ALL) - set(types):
        refusal = refused({**EVENTS[kind], name: good[0]})
        assert (refusal.reason, refusal.field) == (Rejection.UNKNOWN_FIELD, name)


@pytest.mark.parametrize(("name", "types", "good", "_over"), ROWS, ids=NAMES)
def test_another_json_type_is_refused_and_never_coerced(
    name: str, types: tuple[str, ...], good: list[Any], _over: list[Any]
) -> None:
    closed = {"mode", "paymentProcessor"}
    wrong: list[Any] = ["1", 1, 1.0, True, [1], {"a": 1}]
    for value in wrong:
        same = isinstance(value, type(good[0])) and isinstance(value, bool) == isinstance(
            good[0], bool
        )
        if same:
            continue
        refusal = refused({**EVENTS[types[0]], name: value})
        reason = Rejection.BAD_VALUE if name in closed else Rejection.WRONG_TYPE
        assert (refusal.reason, refusal.field) == (reason, name)


@pytest.mark.parametrize("kind", TYPES)
def test_a_required_field_may_be_neither_missing_nor_null(kind: str) -> None:
    for name in REQUIRED[kind]:
        without = {key: value for key, value in EVENTS[kind].items() if key != name}
        refusal = refused(without)
        assert (refusal.reason, refusal.field) == (Rejection.MISSING_FIELD, name)
        assert refused({**without, name: None}).reason is Rejection.WRONG_TYPE


@pytest.mark.parametrize("kind", TYPES)
def test_null_in_an_optional_field_means_none(kind: str) -> None:
    optional = [name for name, types, _, _ in ROWS if kind in types and name not in REQUIRED[kind]]
    event = {**EVENTS[kind], **dict.fromkeys(optional)}
    assert EVENT.validate_python(event) == event


def test_ids_names_and_addresses_are_trimmed_and_nothing_else() -> None:
    lead = {
        **EVENTS["lead"],
        "id": " 018f-1 ",
        "customerId": " u-1 ",
        "customerName": " Ann ",
        "customerEmail": " ann@shop.example ",
        "metadata": {" plan ": " pro "},
    }
    assert EVENT.validate_python(lead) == {
        **EVENTS["lead"],
        "customerId": "u-1",
        "customerName": "Ann",
        "customerEmail": "ann@shop.example",
        "metadata": {" plan ": " pro "},
    }
    page = {**EVENTS["page"], "title": " Shoes ", "url": " /p "}
    assert EVENT.validate_python(page) == page


def test_a_trimmed_id_may_not_be_empty() -> None:
    refusal = refused({**EVENTS["page"], "visitorId": "  "})
    assert (refusal.reason, refusal.field) == (Rejection.BAD_VALUE, "visitorId")
    assert "null" in refusal.message


@pytest.mark.parametrize("bad", ["", "a b", "å", "a\x7f", "a\n b"])
def test_an_id_is_visible_ascii(bad: str) -> None:
    refusal = refused({**EVENTS["page"], "id": bad})
    assert (refusal.reason, refusal.field) == (Rejection.BAD_VALUE, "id")
    assert "visible ASCII" in refusal.message


def test_an_id_has_64_characters_at_most() -> None:
    assert EVENT.validate_python({**EVENTS["page"], "id": "~" * 64})
    assert refused({**EVENTS["page"], "id": "~" * 65}).reason is Rejection.OVER_LIMIT


@pytest.mark.parametrize(
    "address",
    [
        "ann",
        "ann@",
        "@shop.example",
        "ann@shop",
        "ann@shop.e",
        ".ann@shop.example",
        "ann.@shop.example",
        "a..nn@shop.example",
        "ann@shop..example",
        "ann@-shop.example",
        "an n@shop.example",
        "änn@shop.example",
        "ann@shop.example\n.x",
        '"ann"@shop.example',
        "ann@[127.0.0.1]",
    ],
)
def test_an_address_that_dub_refuses_is_refused(address: str) -> None:
    refusal = refused({**EVENTS["lead"], "customerEmail": address})
    assert (refusal.reason, refusal.field) == (Rejection.BAD_VALUE, "customerEmail")


@pytest.mark.parametrize("address", ["a@b.co", "a.n-n+x'y_@shop.co.uk", "1@2.se", "-@a-.example"])
def test_an_address_that_dub_takes_is_taken(address: str) -> None:
    assert EVENT.validate_python({**EVENTS["lead"], "customerEmail": address})


def test_parameters_without_utm_in_front_have_no_place_in_utm() -> None:
    refusal = refused({**EVENTS["page"], "utm": {"source": "x"}})
    assert (refusal.reason, refusal.field) == (Rejection.BAD_VALUE, "utm.source")
    assert "utm_" in refusal.message


@pytest.mark.parametrize(
    ("kind", "name", "value", "words"),
    [
        ("sale", "currency", "kronor", "three letters"),
        ("sale", "currency", "kr1", "three letters"),
        ("customer", "country", "SWE", "two letters"),
        ("lead", "mode", "later", "'async', 'wait' or 'deferred'"),
        ("sale", "paymentProcessor", "klarna", "'stripe'"),
        ("page", "adClickIds", {"": "v"}, "empty name"),
    ],
)
def test_a_value_that_is_not_allowed_says_what_is(
    kind: str, name: str, value: Any, words: str
) -> None:
    refusal = refused({**EVENTS[kind], name: value})
    assert refusal.reason is Rejection.BAD_VALUE
    assert words in refusal.message


def test_a_negative_amount_says_where_refunds_go() -> None:
    refusal = refused({**EVENTS["sale"], "amount": -4990})
    assert (refusal.reason, refusal.field) == (Rejection.OVER_LIMIT, "amount")
    assert "refund" in refusal.message
    assert "metadata" in refusal.message


def test_an_amount_with_a_fraction_says_what_minor_units_are() -> None:
    refusal = refused({**EVENTS["sale"], "amount": 49.9})
    assert (refusal.reason, refusal.field) == (Rejection.WRONG_TYPE, "amount")
    assert "4990 is 49.90 SEK" in refusal.message


def nested(levels: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def test_metadata_may_reach_the_sixteenth_level_of_the_request_and_no_deeper() -> None:
    assert EVENT.validate_python({**EVENTS["page"], "metadata": nested(13)})
    for levels in (14, 300):
        refusal = refused({**EVENTS["page"], "metadata": nested(levels)})
        assert (refusal.reason, refusal.field) == (Rejection.TOO_DEEP, "metadata")
    wide: dict[str, Any] = {str(index): [{}] for index in range(50)}
    assert EVENT.validate_python({**EVENTS["page"], "metadata": wide})


def test_metadata_is_counted_as_dub_counts_it() -> None:
    assert EVENT.validate_python({**EVENTS["page"], "metadata": {"m": "å" * 9_992}})
    assert EVENT.validate_python({**EVENTS["page"], "metadata": {"m": "😀" * 4_996}})
    refusal = refused({**EVENTS["page"], "metadata": {"m": "😀" * 4_997}})
    assert (refusal.reason, refusal.field) == (Rejection.OVER_LIMIT, "metadata")
    assert "10002 characters" in refusal.message


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({}, Rejection.MISSING_FIELD),
        ({"type": "click"}, Rejection.UNKNOWN_TYPE),
        ({"type": ["page"]}, Rejection.UNKNOWN_TYPE),
        ({"type": None}, Rejection.UNKNOWN_TYPE),
        ([], Rejection.NOT_AN_OBJECT),
        ("page", Rejection.NOT_AN_OBJECT),
        (None, Rejection.NOT_AN_OBJECT),
    ],
)
def test_what_is_no_event_is_refused(event: object, reason: Rejection) -> None:
    assert refused(event).reason is reason


@pytest.mark.parametrize(
    ("name", "meant"),
    [("item_id", "itemId"), ("ItemID", "itemId"), ("visitor-id", "visitorId")],
)
def test_a_misspelt_field_is_told_what_was_meant(name: str, meant: str) -> None:
    assert refused({**EVENTS["product"], name: "x"}).message.endswith(f"Did you mean {meant}?")


def test_an_invented_field_name_is_cut_in_the_answer() -> None:
    refusal = refused({**EVENTS["page"], "{x}" * 1000: 1})
    assert refusal.field == ("{x}" * 34)[:100]
    assert len(refusal.message) < 250


@pytest.mark.parametrize(
    ("entry", "reason", "field"),
    [
        ({"quantity": 1}, Rejection.MISSING_FIELD, "items[1].sku"),
        ({"sku": "a"}, Rejection.MISSING_FIELD, "items[1].quantity"),
        ({"sku": "a", "quantity": 1, "price": 1}, Rejection.UNKNOWN_FIELD, "items[1].price"),
        ({"sku": "a", "quantity": 1.5}, Rejection.WRONG_TYPE, "items[1].quantity"),
        ({"sku": "a", "quantity": 1_000_000}, Rejection.OVER_LIMIT, "items[1].quantity"),
    ],
)
def test_a_bad_item_is_named_by_its_place(
    entry: dict[str, Any], reason: Rejection, field: str
) -> None:
    refusal = refused({**EVENTS["cart"], "items": [ITEM, entry]})
    assert (refusal.reason, refusal.field) == (reason, field)


@pytest.mark.parametrize("name", ["id", "time", "itemId"])
def test_a_recent_view_needs_what_a_product_event_needs(name: str) -> None:
    view = {key: value for key, value in VIEW.items() if key != name}
    refusal = refused({**EVENTS["customer"], "recent": [VIEW, view]})
    assert (refusal.reason, refusal.field) == (Rejection.MISSING_FIELD, f"recent[1].{name}")


def test_an_error_that_has_no_words_of_its_own_still_names_the_field() -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(dict[str, float]).validate_python({"x": "y"})
    refusal = refusal_of(caught.value, "context")
    assert (refusal.reason, refusal.field) == (Rejection.BAD_VALUE, "context.x")
    assert "/openapi.json" in refusal.message


def test_the_context_has_the_shared_fields_and_consent() -> None:
    context = {
        "consent": "full",
        "visitorId": " v ",
        "sessionId": "s",
        "customerId": "u-1",
        "contactId": None,
        "eclub": "e",
        "clickId": "k",
        "adClickIds": {"gclid": "g"},
        "mailReference": "m",
        "language": "sv-SE",
        "url": "https://shop.example/p/1",
        "referrer": "https://search.example",
        "utm": {"utm_source": "newsletter"},
    }
    assert CONTEXT.validate_python(context) == {**context, "visitorId": "v"}


@pytest.mark.parametrize("name", ["metadata", "id", "itemId", "customerEmail"])
def test_an_events_own_field_has_no_place_in_the_context(name: str) -> None:
    with pytest.raises(ValidationError) as caught:
        CONTEXT.validate_python({name: "x"})
    refusal = refusal_of(caught.value, "context")
    assert (refusal.reason, refusal.field) == (Rejection.UNKNOWN_FIELD, f"context.{name}")


def test_personal_fields_are_fields_of_the_wire() -> None:
    assert PERSONAL < FIELDS
    assert set(NAMES) | {"type", "id", "time", "consent"} == FIELDS


def said_of(event: object) -> Refusal | None:
    try:
        EVENT.validate_python(event)
    except ValidationError as error:
        return refusal_of(error)
    return None


@given(st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=8))
def test_no_json_makes_the_checks_raise_anything_but_a_refusal(value: object) -> None:
    for event in (value, {"type": value}, {**EVENTS["page"], "metadata": value}):
        refusal = said_of(event)
        assert refusal is None or refusal.message


@pytest.mark.parametrize("levels", [1, 2, 13])
def test_depth_counts_lists_and_objects(levels: int) -> None:
    assert not deeper_than(nested(levels), levels)
    assert deeper_than(nested(levels), levels - 1)
    assert deeper_than([nested(levels)], levels)
    assert not deeper_than("text", 0)
