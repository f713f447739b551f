import asyncio
from collections.abc import Awaitable, Callable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, ClientPayloadError, ClientResponse, ClientTimeout, web
from aiohttp.test_utils import TestClient

from gateway.sandbox.control import CONTROL
from gateway.sandbox.dub import DUB, create_dub
from gateway.sandbox.dub_workspace import DubSandbox
from gateway.sandbox.faults import FAULT
from gateway.sandbox.voyado import VOYADO, VoyadoSandbox, create_voyado

Client = TestClient[web.Request, web.Application]
Connect = Callable[[web.Application], Awaitable[Client]]

VIEW = "/api/v2/tracking/productview"
VIEWS = "/api/v2/tracking/productviews"
BODY = {"itemId": "SKU-1", "contactId": "c"}
HEADERS = {"apikey": "sandbox-voyado-key", "User-Agent": "Gateway/0.1"}
KEY = {"Authorization": "Bearer dub_sandbox"}
SALE = {"customerExternalId": "u-1", "amount": 4_900}


@pytest.fixture
async def voyado(connect: Connect, static: Path, clock: Callable[[], int]) -> Client:
    return await connect(create_voyado(VoyadoSandbox(now_ms=clock), static))


@pytest.fixture
async def dub(connect: Connect, static: Path) -> Client:
    client = await connect(create_dub(DubSandbox(), static))
    client.app[DUB].click("summer", "click")
    return client


async def switch_on(client: Client, **fault: Any) -> None:
    answer = await client.post("/_sandbox/faults", json=fault)
    assert answer.status == 201, await answer.text()


async def view(client: Client, **more: Any) -> ClientResponse:
    return await client.post(VIEW, json=BODY, headers=HEADERS, **more)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.01)


def recorded(client: Client) -> int:
    return client.app[VOYADO].views.total


async def test_a_status_is_answered_in_place_of_carrying_out_until_switched_off(
    voyado: Client,
) -> None:
    await switch_on(voyado, kind="status", status=503)
    for _ in range(2):
        answer = await view(voyado)
        assert answer.status == 503
        assert set(await answer.json()) == {"message"}
    assert recorded(voyado) == 0
    assert (await voyado.delete("/_sandbox/faults")).status == 204
    assert (await view(voyado)).status == 200


async def test_a_status_can_be_answered_after_carrying_out(voyado: Client) -> None:
    await switch_on(voyado, kind="status", status=504, carriedOut=True)
    assert (await view(voyado)).status == 504
    assert recorded(voyado) == 1


async def test_a_status_comes_in_the_services_own_form_or_with_a_given_text(dub: Client) -> None:
    await switch_on(dub, kind="status", status=429, times=1)
    await switch_on(dub, kind="status", status=502, body="<h1>Bad gateway</h1>")
    answer = await dub.post("/track/sale", json=SALE, headers=KEY)
    assert (await answer.json())["error"]["code"] == "rate_limit_exceeded"
    answer = await dub.post("/track/sale", json=SALE, headers=KEY)
    assert (answer.status, await answer.text()) == (502, "<h1>Bad gateway</h1>")


@pytest.mark.parametrize(
    ("form", "value"),
    [("seconds", "30"), ("epoch_seconds", "1700000030"), ("epoch_ms", "1700000030000")],
)
async def test_retry_after_is_written_in_the_form_asked_for(
    voyado: Client, form: str, value: str
) -> None:
    await switch_on(voyado, kind="status", status=429, retryAfter={"form": form, "seconds": 30})
    assert (await view(voyado)).headers["Retry-After"] == value


async def test_retry_after_can_be_a_date(voyado: Client) -> None:
    await switch_on(
        voyado, kind="status", status=429, retryAfter={"form": "http_date", "seconds": 30}
    )
    date = parsedate_to_datetime((await view(voyado)).headers["Retry-After"])
    assert date.timestamp() == 1_700_000_030


async def test_a_delay_carries_the_request_out_even_if_the_caller_has_gone(
    voyado: Client,
) -> None:
    await switch_on(voyado, kind="delay", seconds=0.3)
    with pytest.raises(TimeoutError):
        await view(voyado, timeout=ClientTimeout(total=0.1))
    assert recorded(voyado) == 0
    await until(lambda: recorded(voyado) == 1)


async def test_clearing_the_faults_lets_go_of_what_they_hold_up(voyado: Client) -> None:
    await switch_on(voyado, kind="delay", seconds=3_600)
    held_up = asyncio.create_task(view(voyado))
    await until(lambda: voyado.app[CONTROL].faults.as_json()[0]["struck"] == 1)
    await voyado.delete("/_sandbox/faults")
    async with asyncio.timeout(5):
        assert (await held_up).status == 200


@pytest.mark.parametrize("carried_out", [False, True])
async def test_a_reset_leaves_no_answer_and_the_caller_in_doubt(
    voyado: Client, *, carried_out: bool
) -> None:
    await switch_on(voyado, kind="reset", carriedOut=carried_out)
    with pytest.raises(ClientError):
        await view(voyado)
    assert recorded(voyado) == int(carried_out)
    assert voyado.app[CONTROL].requests == {("POST", VIEW, None): 1}


async def test_a_connection_can_be_closed_in_the_middle_of_an_answer(dub: Client) -> None:
    await switch_on(dub, kind="close_mid_answer")
    answer = await dub.post("/track/sale", json={**SALE, "clickId": "click"}, headers=KEY)
    assert answer.status == 200
    with pytest.raises(ClientPayloadError):
        await answer.read()
    assert dub.app[DUB].sales.total == 1


async def test_even_an_empty_answer_can_be_broken_off(voyado: Client) -> None:
    await switch_on(voyado, kind="close_mid_answer")
    answer = await view(voyado)
    with pytest.raises(ClientPayloadError):
        await answer.read()
    assert recorded(voyado) == 1


async def test_an_answer_can_come_byte_by_byte(dub: Client) -> None:
    await switch_on(dub, kind="slow_drip", secondsBetween=0.001, sizeBytes=100)
    answer = await dub.post("/track/sale", json=SALE, headers=KEY)
    assert len(await answer.read()) == 100
    assert (await answer.json())["eventName"] == "Purchase"


async def test_a_slow_answer_outlasts_an_impatient_caller(voyado: Client) -> None:
    await switch_on(voyado, kind="slow_drip", secondsBetween=60)
    with pytest.raises(TimeoutError):
        await (await view(voyado, timeout=ClientTimeout(total=0.3))).read()
    assert recorded(voyado) == 1


async def test_an_answer_can_be_huge(voyado: Client) -> None:
    await switch_on(voyado, kind="huge_answer", sizeBytes=3_000_000)
    assert len(await (await view(voyado)).read()) == 3_000_000
    assert recorded(voyado) == 1


async def test_a_caller_may_hang_up_on_a_huge_answer(voyado: Client) -> None:
    await switch_on(voyado, kind="huge_answer", sizeBytes=1_073_741_824, times=1)
    answer = await view(voyado)
    assert len(await answer.content.readexactly(1_000)) == 1_000
    answer.close()
    assert (await view(voyado)).status == 200


async def test_an_answer_can_be_200_and_no_json(dub: Client) -> None:
    await switch_on(dub, kind="invalid_json")
    answer = await dub.post("/track/sale", json={**SALE, "clickId": "click"}, headers=KEY)
    assert (answer.status, answer.content_type) == (200, "application/json")
    with pytest.raises(ValueError, match="Expecting"):
        await answer.json()
    assert dub.app[DUB].sales.total == 1


async def test_a_fault_can_be_for_so_many_requests(voyado: Client) -> None:
    await switch_on(voyado, kind="status", status=500, times=2)
    assert [(await view(voyado)).status for _ in range(3)] == [500, 500, 200]
    assert await (await voyado.get("/_sandbox/faults")).json() == {"faults": []}


async def test_a_fault_can_be_for_one_in_so_many(voyado: Client) -> None:
    await switch_on(voyado, kind="status", status=500, every=3)
    assert [(await view(voyado)).status for _ in range(4)] == [500, 200, 200, 500]


async def test_a_fault_can_be_for_one_path(voyado: Client) -> None:
    await switch_on(voyado, kind="status", status=500, path=VIEWS)
    assert (await view(voyado)).status == 200
    assert (await voyado.post(VIEWS, json=[BODY], headers=HEADERS)).status == 500
    await voyado.delete("/_sandbox/faults")
    await switch_on(voyado, kind="status", status=500, path="/api/v2/tracking/productv*")
    assert (await view(voyado)).status == 500


async def test_the_first_fault_that_applies_strikes_then_the_next(voyado: Client) -> None:
    await switch_on(voyado, kind="status", status=500, times=1)
    await switch_on(voyado, kind="status", status=503)
    assert [(await view(voyado)).status for _ in range(2)] == [500, 503]


async def test_faults_can_be_switched_on_from_python(voyado: Client) -> None:
    fault = FAULT.validate_python({"kind": "status", "status": 500, "times": 1})
    voyado.app[CONTROL].faults.add(fault)
    assert (await view(voyado)).status == 500


async def test_no_fault_strikes_the_sandboxs_own_paths(voyado: Client) -> None:
    await switch_on(voyado, kind="status", status=500)
    for path in ("/", "/_sandbox/state", "/_sandbox/faults"):
        assert (await voyado.get(path)).status == 200


async def test_the_state_shows_what_is_switched_on_and_how_often_it_struck(
    voyado: Client,
) -> None:
    await switch_on(voyado, kind="status", status=500)
    await view(voyado)
    shown = await (await voyado.get("/_sandbox/state")).json()
    assert shown["faults"] == [
        {"kind": "status", "status": 500, "carriedOut": False, "every": 1, "struck": 1}
    ]


@pytest.mark.parametrize(
    "fault",
    [
        {},
        [],
        {"kind": "meteor"},
        {"kind": "status"},
        {"kind": "status", "status": 200},
        {"kind": "status", "status": 500, "times": 0},
        {"kind": "delay", "seconds": 1e9},
        {"kind": "delay", "second": 1},
        {"kind": "huge_answer", "sizeBytes": 2**40},
    ],
)
async def test_a_fault_that_makes_no_sense_is_refused(voyado: Client, fault: Any) -> None:
    answer = await voyado.post("/_sandbox/faults", json=fault)
    assert answer.status == 422
    assert (await answer.json())["problems"]


async def test_another_sites_page_cannot_switch_faults_on(voyado: Client) -> None:
    fault = '{"kind": "status", "status": 500}'
    plain = {"Content-Type": "text/plain"}
    assert (await voyado.post("/_sandbox/faults", data=fault, headers=plain)).status == 415
    preflight = await voyado.options("/_sandbox/faults", headers={"Origin": "https://x.example"})
    assert "Access-Control-Allow-Origin" not in preflight.headers
