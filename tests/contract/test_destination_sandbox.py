"""Voyado and Dub against their strict stand-ins: what is sent is taken, and has its effect once."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, web
from pydantic import ValidationError

from gateway.adapters.destinations.dub.destination import DubDestination
from gateway.adapters.destinations.dub.settings import DubSettings
from gateway.adapters.destinations.voyado import VoyadoDestination, VoyadoSettings
from gateway.adapters.http_client import AiohttpClient
from gateway.model.attempt import Again, Done, Item, Tried, Verdict, tried_after
from gateway.model.envelope import Derived, Envelope
from gateway.model.event import EVENT
from gateway.model.outcome import Outcome, Reason
from gateway.ports import Destination
from gateway.sandbox.control import CONTROL
from gateway.sandbox.dub import DUB, create_dub
from gateway.sandbox.dub_workspace import DubSandbox, Workspace
from gateway.sandbox.voyado import VOYADO, VoyadoSandbox, VoyadoState, create_voyado
from tests.sample import CONTEXT, NOW_MS, StoppedClock, envelope

DELIVERED = Done(Outcome.DELIVERED)


class StandIn:
    """A stand-in that serves on loopback."""

    def __init__(self, app: web.Application) -> None:
        self.app = app
        self.runner = web.AppRunner(app, shutdown_timeout=1.0)
        self.url = ""

    async def start(self) -> None:
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self.runner.addresses[0][1]}"

    async def fault(self, **fault: Any) -> None:
        """Switch a fault on."""
        async with (
            ClientSession() as session,
            session.post(f"{self.url}/_sandbox/faults", json=fault) as answer,
        ):
            assert answer.status < 300, await answer.text()


async def send(destination: Destination, *items: Item) -> tuple[Verdict, ...]:
    return (await destination.send(destination.request(items))).verdicts


def prepare(destination: Destination, event: Envelope, time_ms: int = NOW_MS) -> Item:
    item = destination.prepare(event, time_ms)
    assert isinstance(item, Item)
    return item


# Voyado


@pytest.fixture
async def voyado_stand_in(tmp_path: Path) -> AsyncIterator[StandIn]:
    stand_in = StandIn(create_voyado(VoyadoSandbox(api_key="sandbox-key"), tmp_path))
    await stand_in.start()
    yield stand_in
    await stand_in.runner.cleanup()


@pytest.fixture
def engage(voyado_stand_in: StandIn) -> VoyadoState:
    return voyado_stand_in.app[VOYADO]


@pytest.fixture
def voyado(voyado_stand_in: StandIn, http: AiohttpClient) -> VoyadoDestination:
    chosen = {"kind": "voyado", "base_url": voyado_stand_in.url, "api_key": "sandbox-key"}
    return VoyadoDestination(VoyadoSettings.model_validate(chosen), http, StoppedClock())


async def test_carts_and_views_of_every_shape_are_taken(
    voyado: VoyadoDestination, engage: VoyadoState, voyado_stand_in: StandIn
) -> None:
    bare = {"contactId": "c"}
    carts = [
        prepare(voyado, envelope("cart", url="https://shop.example/cart")),
        prepare(voyado, envelope("cart", cartReference="c-2")),
        prepare(voyado, envelope("cart", {}, cartReference="c-3", items=[])),
    ]
    full = {
        **CONTEXT,
        "sessionId": "s",
        "url": "https://s.example",
        "referrer": "https://r.example",
    }
    views = [
        prepare(voyado, envelope("product", bare, category=None)),
        prepare(voyado, envelope("product", {**full, "utm": {"utm_source": "n"}}, newSession=True)),
    ]
    assert await send(voyado, *carts) == (DELIVERED,) * 3
    assert await send(voyado, *views) == (DELIVERED,) * 2
    assert await send(voyado, carts[0]) == (DELIVERED,)
    assert await send(voyado, views[1]) == (DELIVERED,)
    assert set(engage.carts) == {"c-1", "c-2", "c-3"}
    assert [received.view.item_id for received in engage.views] == ["SKU-1"] * 3
    assert sorted(path for _, path, _ in voyado_stand_in.app[CONTROL].requests) == [
        "/api/v2/tracking/carts",
        "/api/v2/tracking/carts/batch",
        "/api/v2/tracking/productview",
        "/api/v2/tracking/productviews",
    ]


async def test_a_cart_emptied_by_a_sale_is_empty_and_a_repetition_changes_nothing(
    voyado: VoyadoDestination, engage: VoyadoState
) -> None:
    cart = prepare(voyado, envelope("cart"), NOW_MS)
    empty = envelope("cart", items=[], derived=Derived("close", "sale-1"))
    await send(voyado, cart)
    await send(voyado, prepare(voyado, empty, NOW_MS + 1000))
    await send(voyado, prepare(voyado, empty, NOW_MS + 1000))
    assert engage.carts["c-1"].cart.items == ()
    assert not any(update.went_back for update in engage.updates)


async def test_halving_a_refused_batch_finds_the_one_that_is_wrong(
    voyado: VoyadoDestination, engage: VoyadoState
) -> None:
    carts = [prepare(voyado, envelope("cart", cartReference=f"c-{n}")) for n in range(8)]
    carts[5].body["items"][0]["sku"] = ""
    waiting, fates = [carts], {}
    while waiting:
        batch = waiting.pop()
        for item, verdict in zip(batch, await send(voyado, *batch), strict=True):
            if isinstance(verdict, Done):
                fates[item.body["cartReference"]] = verdict.outcome
        if len(batch) > 1 and batch[0].body["cartReference"] not in fates:
            half = len(batch) // 2
            waiting += [batch[:half], batch[half:]]
    assert fates.pop("c-5") is Outcome.DEAD
    assert set(fates.values()) == {Outcome.DELIVERED}
    assert len(fates) == len(engage.carts) == 7


async def test_a_wrong_key_or_path_buries_nothing(
    voyado_stand_in: StandIn, http: AiohttpClient
) -> None:
    for wrong in ({"api_key": "other"}, {"path_prefix": "/api/v9/tracking"}):
        chosen = {"kind": "voyado", "base_url": voyado_stand_in.url, "api_key": "sandbox-key"}
        settings = VoyadoSettings.model_validate({**chosen, **wrong})
        destination = VoyadoDestination(settings, http, StoppedClock())
        (verdict,) = await send(destination, prepare(destination, envelope("cart")))
        assert isinstance(verdict, Again)
        assert verdict.reason is Reason.UNAUTHORIZED


# Dub


@pytest.fixture
async def dub_stand_in(tmp_path: Path) -> AsyncIterator[StandIn]:
    stand_in = StandIn(create_dub(DubSandbox(api_key="dub_sandbox"), tmp_path))
    await stand_in.start()
    yield stand_in
    await stand_in.runner.cleanup()


@pytest.fixture
def workspace(dub_stand_in: StandIn) -> Workspace:
    return dub_stand_in.app[DUB]


@pytest.fixture
def dub(dub_stand_in: StandIn, http: AiohttpClient) -> DubDestination:
    chosen = {"kind": "dub", "base_url": dub_stand_in.url, "api_key": "dub_sandbox"}
    return DubDestination(DubSettings.model_validate(chosen), http, StoppedClock())


@pytest.fixture
def click(workspace: Workspace) -> dict[str, Any]:
    return {"customerId": "u-1", "clickId": workspace.click("summer").id}


async def one(dub: DubDestination, event: Envelope, tried: Tried = Tried.NEVER) -> Verdict:
    item = prepare(dub, event)
    item.tried = tried
    (verdict,) = await send(dub, item)
    return verdict


def outcome(verdict: Verdict) -> tuple[Outcome | None, Reason | None]:
    return (verdict.outcome if isinstance(verdict, Done) else None), verdict.reason


async def test_a_lead_its_sale_and_a_change_are_taken_in_turn(
    dub: DubDestination, workspace: Workspace, click: dict[str, Any]
) -> None:
    assert await one(dub, envelope("lead", click, customerEmail="a@x.example")) == DELIVERED
    assert await one(dub, envelope("sale", click)) == DELIVERED
    assert await one(dub, envelope("customer", click, customerName="Bo")) == DELIVERED
    assert len(workspace.leads) == len(workspace.sales) == 1
    (customer,) = workspace.customers.values()
    assert (customer.name, customer.email) == ("Bo", "a@x.example")


async def test_a_lead_is_recorded_once_however_often_it_is_sent(
    dub: DubDestination, workspace: Workspace, click: dict[str, Any]
) -> None:
    lead = envelope("lead", click)
    assert await one(dub, lead) == DELIVERED
    assert outcome(await one(dub, lead)) == (Outcome.DUPLICATE, Reason.ALREADY_KNOWN)
    in_doubt = await one(dub, lead, Tried.IN_DOUBT)
    assert outcome(in_doubt) == (Outcome.DELIVERED, Reason.UNCONFIRMED)
    assert len(workspace.leads) == 1


async def test_a_sale_with_an_invoice_is_recorded_once_though_sent_twice(
    dub: DubDestination, workspace: Workspace, click: dict[str, Any]
) -> None:
    await one(dub, envelope("lead", click))
    assert await one(dub, envelope("sale", click)) == DELIVERED
    assert await one(dub, envelope("sale", click), Tried.IN_DOUBT) == DELIVERED
    assert len(workspace.sales) == 1


async def test_a_sale_before_its_lead_waits_and_is_then_taken(
    dub: DubDestination, workspace: Workspace, click: dict[str, Any]
) -> None:
    sale = envelope("sale", {"customerId": "u-1"})
    assert outcome(await one(dub, sale)) == (None, Reason.UNKNOWN_CUSTOMER)
    await one(dub, envelope("lead", click))
    assert await one(dub, sale) == DELIVERED
    assert len(workspace.sales) == 1


async def test_a_direct_sale_makes_its_customer(
    dub: DubDestination, workspace: Workspace, click: dict[str, Any]
) -> None:
    assert await one(dub, envelope("sale", click, customerName="Ann")) == DELIVERED
    (customer,) = workspace.customers.values()
    assert customer.name == "Ann"


async def test_what_dub_does_not_know_has_its_named_outcome(dub: DubDestination) -> None:
    nobody = {"customerId": "u-9"}
    stray = {**nobody, "clickId": "AAAAAAAAAAAAAAAA"}
    unknown = (Outcome.UNATTRIBUTED, Reason.UNKNOWN_CUSTOMER)
    assert outcome(await one(dub, envelope("lead", nobody))) == unknown
    assert outcome(await one(dub, envelope("customer", nobody))) == unknown
    made = outcome(await one(dub, envelope("lead", stray)))
    assert made == (Outcome.DEAD, Reason.UNKNOWN_CLICK)
    assert outcome(await one(dub, envelope("sale", stray))) == (None, Reason.UNKNOWN_CUSTOMER)


async def test_the_trap_of_a_failed_lead_is_not_taken_for_a_success(
    dub: DubDestination, workspace: Workspace, click: dict[str, Any]
) -> None:
    """Dub notes a lead before it looks up the click; a second try is answered with success."""
    lost = envelope("lead", {**click, "clickId": "AAAAAAAAAAAAAAAA"})
    await one(dub, lost)
    again = await one(dub, envelope("lead", click), Tried.FAILED)
    assert outcome(again) == (Outcome.DEAD, Reason.UNCONFIRMED)
    assert not workspace.leads


async def test_a_lead_that_dub_failed_on_half_done_is_not_taken_for_a_success(
    dub: DubDestination, workspace: Workspace, click: dict[str, Any], dub_stand_in: StandIn
) -> None:
    await dub_stand_in.fault(kind="half_done", times=1)
    failed = await one(dub, envelope("lead", click))
    assert outcome(failed) == (None, Reason.UNAVAILABLE)
    again = await one(dub, envelope("lead", click), tried_after(Tried.NEVER, Reason.UNAVAILABLE))
    assert outcome(again) == (Outcome.DEAD, Reason.UNCONFIRMED)
    assert not workspace.leads


@pytest.mark.parametrize("email", ["a@x", "a..b@x.example", "ann'@x.example", "ånn@x.example"])
async def test_an_address_that_dub_would_refuse_is_refused_at_ingest(
    dub: DubDestination, click: dict[str, Any], email: str
) -> None:
    refused = await one(dub, envelope("lead", click, customerEmail=email))
    assert outcome(refused) == (Outcome.DEAD, Reason.REFUSED)
    lead = {"type": "lead", "id": "e", "time": "2026-03-02T10:15:00Z", "eventName": "Sign up"}
    with pytest.raises(ValidationError, match="e-mail address"):
        EVENT.validate_python({**lead, "customerEmail": email})


# Dub in 2024


@pytest.fixture
async def stand_in_of_2024(tmp_path: Path) -> AsyncIterator[StandIn]:
    stand_in = StandIn(create_dub(DubSandbox(dialect="2024"), tmp_path))
    await stand_in.start()
    yield stand_in
    await stand_in.runner.cleanup()


@pytest.fixture
def dub_of_2024(stand_in_of_2024: StandIn, http: AiohttpClient) -> DubDestination:
    chosen = {
        "kind": "dub",
        "dialect": "2024",
        "base_url": stand_in_of_2024.url,
        "api_key": "dub_sandbox",
        "payment_processor": "shopify",
    }
    return DubDestination(DubSettings.model_validate(chosen), http, StoppedClock())


async def test_everything_is_taken_in_the_dialect_of_2024(
    dub_of_2024: DubDestination, stand_in_of_2024: StandIn
) -> None:
    dub, workspace = dub_of_2024, stand_in_of_2024.app[DUB]
    known = {"customerId": "u-1", "clickId": workspace.click("summer").id}
    person: dict[str, Any] = {"customerName": "Ann", "customerEmail": "a@x.example"}
    assert outcome(await one(dub, envelope("sale", known))) == (None, Reason.UNKNOWN_CUSTOMER)
    assert await one(dub, envelope("customer", known, **person)) == DELIVERED
    assert outcome(await one(dub, envelope("sale", known))) == (None, Reason.UNKNOWN_CUSTOMER)
    lead = envelope("lead", known, mode="wait", eventQuantity=2, metadata={"a": 1}, **person)
    assert await one(dub, lead) == DELIVERED
    assert outcome(await one(dub, lead)) == (Outcome.DUPLICATE, Reason.ALREADY_KNOWN)
    in_doubt = await one(dub, lead, Tried.IN_DOUBT)
    assert outcome(in_doubt) == (Outcome.DELIVERED, Reason.UNCONFIRMED)
    sale = envelope("sale", known, eventName="Renewal", metadata={"a": 1}, **person)
    assert await one(dub, sale) == DELIVERED
    assert (len(workspace.leads), len(workspace.sales)) == (1, 1)
    assert workspace.sales[0].payment_processor == "shopify"


async def test_what_is_over_a_limit_of_2024_is_dead_and_named(
    dub_of_2024: DubDestination, stand_in_of_2024: StandIn
) -> None:
    known = {"customerId": "u-1", "clickId": stand_in_of_2024.app[DUB].click("summer").id}
    for event in (
        envelope("lead", known, eventName="x" * 51),
        envelope("lead", known, customerAvatar="https://x.example/" + "a" * 100),
        envelope("sale", known, paymentProcessor="polar"),
    ):
        assert outcome(await one(dub_of_2024, event)) == (Outcome.DEAD, Reason.REFUSED)


@pytest.mark.parametrize("dialect", ["current", "2024"])
async def test_the_other_dialects_server_buries_no_customer(
    dialect: Any, http: AiohttpClient, dub_stand_in: StandIn, stand_in_of_2024: StandIn
) -> None:
    stand_in = stand_in_of_2024 if dialect == "current" else dub_stand_in
    chosen = {
        "kind": "dub",
        "dialect": dialect,
        "base_url": stand_in.url,
        "api_key": "dub_sandbox",
        "payment_processor": "shopify",
    }
    dub = DubDestination(DubSettings.model_validate(chosen), http, StoppedClock())
    assert outcome(await one(dub, envelope("customer"))) == (None, Reason.UNAUTHORIZED)


@pytest.mark.parametrize("form", ["seconds", "http_date", "epoch_seconds", "epoch_ms"])
async def test_too_many_requests_wait_as_long_as_they_are_told(
    dub_stand_in: StandIn, http: AiohttpClient, form: str
) -> None:
    chosen = {"kind": "dub", "base_url": dub_stand_in.url, "api_key": "dub_sandbox"}
    clock = StoppedClock(dub_stand_in.app[DUB]._settings.now_ms())
    destination = DubDestination(DubSettings.model_validate(chosen), http, clock)
    await dub_stand_in.fault(
        kind="status", status=429, retryAfter={"form": form, "seconds": 60}, times=1
    )
    verdict = await one(destination, envelope("lead"))
    assert isinstance(verdict, Again)
    assert verdict.reason is Reason.RATE_LIMITED
    assert verdict.after_seconds == pytest.approx(60, abs=2)
