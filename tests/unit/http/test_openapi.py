"""The description and the server say the same."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gateway.http.collector import SCRIPTS, hashed
from gateway.http.openapi import document
from gateway.http.settings import HttpSettings
from gateway.model.event import CONTEXT, EVENT
from tests.unit.http.conftest import ORIGIN, Gateway, page, request, running
from tests.unit.model.test_event import EVENTS, ROWS

DOCUMENT: dict[str, Any] = json.loads(document())
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]
TYPES = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "null": lambda value: value is None,
}
KEYWORDS: dict[str, Callable[[Any, Any, dict[str, Any]], bool]] = {
    "$ref": lambda value, to, _: fits(value, SCHEMAS[to.rpartition("/")[2]]),
    "type": lambda value, kind, _: TYPES[kind](value),
    "const": lambda value, only, _: bool(value == only),
    "enum": lambda value, members, _: value in members,
    "anyOf": lambda value, each, _: any(fits(value, one) for one in each),
    "oneOf": lambda value, each, _: sum(fits(value, one) for one in each) == 1,
    "minLength": lambda value, least, _: len(value) >= least,
    "maxLength": lambda value, most, _: len(value) <= most,
    "pattern": lambda value, pattern, _: re.search(pattern, value) is not None,
    "minimum": lambda value, least, _: bool(value >= least),
    "maximum": lambda value, most, _: bool(value <= most),
    "items": lambda value, schema, _: all(fits(each, schema) for each in value),
    "maxItems": lambda value, most, _: len(value) <= most,
    "maxProperties": lambda value, most, _: len(value) <= most,
    "propertyNames": lambda value, schema, _: all(
        fits(name, {"type": "string", **schema}) for name in value
    ),
    "required": lambda value, names, _: set(names) <= set(value),
    "properties": lambda value, known, _: all(
        fits(each, known[name]) for name, each in value.items() if name in known
    ),
    "patternProperties": lambda value, known, _: all(
        fits(each, schema)
        for pattern, schema in known.items()
        for name, each in value.items()
        if re.search(pattern, name)
    ),
    "additionalProperties": lambda value, rest, schema: all(
        rest is not False and (rest is True or fits(each, rest))
        for name, each in value.items()
        if name not in schema.get("properties", {})
        and not any(re.search(pattern, name) for pattern in schema.get("patternProperties", {}))
    ),
}
SAYS_NOTHING = {"title", "description", "discriminator", "format"}


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Judge by the JSON Schema keywords that the document uses; an unknown one is an error."""
    unknown = schema.keys() - KEYWORDS.keys() - SAYS_NOTHING
    assert not unknown, unknown
    if "type" in schema and not TYPES[schema["type"]](value):
        return False
    return all(KEYWORDS[word](value, schema[word], schema) for word in schema if word in KEYWORDS)


def taken(value: Any, adapter: Any = EVENT) -> bool:
    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    return True


SAID_IN_WORDS = {"metadata"}
"""Fields whose limits a schema can't say."""


@pytest.mark.parametrize(("name", "types", "good", "over"), ROWS, ids=[row[0] for row in ROWS])
def test_the_document_draws_each_fields_limit_where_the_server_does(
    name: str, types: tuple[str, ...], good: list[Any], over: list[Any]
) -> None:
    for value in good:
        assert fits({**EVENTS[types[0]], name: value}, SCHEMAS["Event"])
    for value in over:
        if name not in SAID_IN_WORDS:
            assert not fits({**EVENTS[types[0]], name: value}, SCHEMAS["Event"])


any_name = st.sampled_from([row[0] for row in ROWS] + ["consent", "type", "id", "time", "x"])
any_value = st.sampled_from(
    [None, True, 1, 0, -1, 1.5, "a", "full", "sale", "SEK", "x" * 65, "x" * 3000, [], {}, [1]]
    + [{"a": "b"}, {"utm_a": "b"}, {"a": 1}, [{"sku": "a", "quantity": 1}], [{"sku": "a"}]]
    + [value for row in ROWS for value in row[2] + row[3] if row[0] not in SAID_IN_WORDS]
)


@given(st.sampled_from(list(EVENTS.values())), st.dictionaries(any_name, any_value, max_size=2))
def test_any_event_is_accepted_or_refused_by_both_alike(
    event: dict[str, Any], changes: dict[str, Any]
) -> None:
    changed = {**event, **changes}
    if changed.get("customerEmail") is None or "@" in str(changed["customerEmail"]):
        assert taken(changed) == fits(changed, SCHEMAS["Event"])


@given(st.dictionaries(any_name, any_value, max_size=3))
def test_any_context_is_accepted_or_refused_by_both_alike(context: dict[str, Any]) -> None:
    assert taken(context, CONTEXT) == fits(context, SCHEMAS["Context"])


def test_every_reference_leads_somewhere() -> None:
    names = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(DOCUMENT)))
    assert names <= set(SCHEMAS)


def test_every_route_is_in_the_document_and_the_other_way_round(gateway: Gateway) -> None:
    routes = {
        (re.sub(r"\{(\w+):[^}]*\}", r"{\1}", route.resource.canonical), route.method.lower())
        for route in gateway.app.router.routes()
        if route.resource is not None and route.method != "HEAD"
    }
    documented = {(path, method) for path, each in DOCUMENT["paths"].items() for method in each}
    assert routes == documented


async def test_the_document_is_served(gateway: Gateway) -> None:
    answer = await gateway.get("/openapi.json")
    assert answer.status == 200
    assert json.loads(answer._body or b"") == DOCUMENT
    assert DOCUMENT["openapi"].startswith("3.1")


# Every documented status is given by the server, and no other

PIXEL = f"/v1/pixel.gif?key=pk_shop&url={ORIGIN}/p"
PATHS = {f"/{name}": f"/{name}" for name in SCRIPTS} | {
    f"/{hashed(name, '{hash}')}": f"/{hashed(name, 'abc123')}" for name in SCRIPTS
}
OTHER = {"Origin": "https://evil.example"}


async def _post(gateway: Gateway) -> set[int]:
    asked: list[tuple[Any, dict[str, str]]] = [
        (request(), {}),
        (request(page(1), None), {}),
        (request(None), {}),
        (b"{", {}),
        (b"x", {"Content-Encoding": "gzip"}),
        ({**request(), "key": "x"}, {}),
        (request(), OTHER),
        (b" " * 1_100_000, {}),
        (request(), {"Content-Type": "text/html"}),
        (request(), {"X": "x" * 9000}),
    ]
    return {(await gateway.post(body, headers)).status for body, headers in asked}


async def _stall(gateway: Gateway) -> set[int]:
    async def body() -> Any:
        yield b"{"
        await asyncio.sleep(1)

    headers = {"Origin": ORIGIN, "Content-Type": "text/plain"}
    async with gateway.client.post("/v1/events", data=body(), headers=headers) as answer:
        return {answer.status}


async def _fail(gateway: Gateway, ask: Callable[[], Awaitable[Any]]) -> set[int]:
    found = set()
    for error in (None, RuntimeError("a bug")):
        gateway.buffer.fail_next(error=error)  # type: ignore[arg-type]  # a bug's error
        found.add((await ask()).status)
    return found


def documented(path: str, method: str) -> set[int]:
    return {int(status) for status in DOCUMENT["paths"][path][method]["responses"]}


@pytest.mark.logs_errors("a request to .* failed")
@pytest.mark.parametrize("http_settings", [{"body_seconds": 0.1}], indirect=True)
async def test_posting_events_gives_every_documented_status(
    gateway: Gateway, collector_folder: Path
) -> None:
    found = await _post(gateway) | await _stall(gateway)
    number = iter(range(10, 20))
    found |= await _fail(gateway, lambda: gateway.post(request(page(next(number)))))
    async with running(HttpSettings(requests_per_second=1), collector_folder) as slow:
        found |= {(await slow.post(request())).status for _ in range(2)}
    assert found == documented("/v1/events", "post")


@pytest.mark.logs_errors("a request to .* failed")
async def test_the_pixel_gives_every_documented_status(
    gateway: Gateway, collector_folder: Path
) -> None:
    asked: list[tuple[str, dict[str, str]]] = [
        (PIXEL, {}),
        ("/v1/pixel.gif", {}),
        (f"{PIXEL}&title={'t' * 501}", {}),
        (PIXEL, {"Referer": "https://evil.example/"}),
        (PIXEL, {"X": "x" * 9000}),
    ]
    found = {(await gateway.get(path, headers)).status for path, headers in asked}
    found |= await _fail(gateway, lambda: gateway.get(PIXEL))
    async with running(HttpSettings(requests_per_second=1), collector_folder) as slow:
        found |= {(await slow.get(PIXEL)).status for _ in range(2)}
    assert found == documented("/v1/pixel.gif", "get")


@pytest.mark.parametrize("path", list(PATHS))
async def test_the_collector_gives_every_documented_status(
    gateway: Gateway, collector_folder: Path, path: str
) -> None:
    tag = {"If-None-Match": (await gateway.get(PATHS[path])).headers["ETag"]}
    asked: list[dict[str, str]] = [{}, tag, {"X": "x" * 9000}]
    found = {(await gateway.get(PATHS[path], headers)).status for headers in asked}
    for name in SCRIPTS:
        (collector_folder / name).unlink()
    async with running(HttpSettings(), collector_folder) as empty:
        found.add((await empty.get(PATHS[path])).status)
    assert found == documented(path, "get")


async def test_the_preflight_and_the_document_give_every_documented_status(
    gateway: Gateway,
) -> None:
    long = {"X": "x" * 9000}
    asked = [{"Origin": ORIGIN}, OTHER, long]
    found = {(await gateway.get("/v1/events", each, "OPTIONS")).status for each in asked}
    assert found == documented("/v1/events", "options")
    served = {(await gateway.get("/openapi.json", each)).status for each in ({}, long)}
    assert served == documented("/openapi.json", "get")
