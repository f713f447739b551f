"""The metrics as operators get them: checked by promtool, scraped by a real Prometheus."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession

from gateway.adapters.clock import SystemClock
from gateway.model.instant import format_ms
from tests.gateways import Gateway, config, eventually, free_port, sandboxes

pytestmark = pytest.mark.system

Needs = Callable[[str], str]
Query = Callable[[str], Awaitable[list[dict[str, Any]]]]

DESTINATIONS = ("voyado", "dub", "archive")
PROMISED = {
    "gateway_events_total": ("counter", {"site", "type", "outcome"}),
    "gateway_rejections_total": ("counter", {"site", "reason"}),
    "gateway_request_seconds": ("histogram", {"route", "status"}),
    "gateway_publish_seconds": ("histogram", set()),
    "gateway_buffer_lag_events": ("gauge", {"destination"}),
    "gateway_buffer_oldest_event_age_seconds": ("gauge", {"destination"}),
    "gateway_retention_left_seconds": ("gauge", {"destination"}),
    "gateway_deliveries_total": ("counter", {"destination", "outcome"}),
    "gateway_delivery_attempts_total": ("counter", {"destination", "endpoint", "status"}),
    "gateway_attempt_seconds": ("histogram", {"destination"}),
    "gateway_event_age_seconds": ("histogram", {"destination"}),
    "gateway_batch_events": ("histogram", {"destination"}),
    "gateway_breaker_open": ("gauge", {"destination"}),
    "gateway_dead_letters_total": ("counter", {"destination", "reason"}),
    "gateway_window_records": ("gauge", set()),
    "gateway_window_seconds": ("gauge", set()),
    "gateway_build_info": ("gauge", {"version", "python"}),
}
"""What dashboards and alerts rely on: name, kind, labels."""
ADDED = {"__name__", "job", "instance", "le"}
"""Labels that Prometheus, or a histogram, adds by itself."""


@pytest.fixture
async def gateway(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that took two events, delivered them, and refused a third."""
    async with sandboxes() as there:
        running = Gateway(tmp_path, config(tmp_path, there))
        try:
            await running.start()
            await _post(running)
            await running.until_drained(DESTINATIONS, 30)
            yield running
        finally:
            await running.abandon()


async def _post(gateway: Gateway) -> None:
    now = format_ms(SystemClock().now_ms())
    page = {"type": "page", "id": "page-1", "time": now}
    lead = {"type": "lead", "id": "lead-1", "time": now, "eventName": "Trial", "customerId": "u-1"}
    bad = {"type": "page", "id": "page-2", "time": "yesterday"}
    body = {"sentAt": now, "context": {"consent": "full"}, "events": [page, lead, bad]}
    key = {"Authorization": "Bearer sk_shop_0123456789abcdef"}
    async with (
        ClientSession() as session,
        session.post(gateway.events_url, json=body, headers=key) as answer,
    ):
        outcomes = [each["outcome"] for each in (await answer.json())["results"]]
    assert outcomes == ["accepted", "accepted", "rejected"]


@asynccontextmanager
async def prometheus(program: str, folder: Path, target: int) -> AsyncIterator[str]:
    """Run Prometheus, scraping the port `target` each second; the value is its address."""
    file = _configured(folder, target)
    listen = f"127.0.0.1:{free_port()}"
    with (folder / "prometheus.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            program, f"--config.file={file}", f"--storage.tsdb.path={folder}/prometheus",
            f"--web.listen-address={listen}", "--log.level=warn", stdout=log, stderr=STDOUT,
        )  # fmt: skip
    try:
        yield f"http://{listen}"
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _configured(folder: Path, target: int) -> Path:
    scrape = {"job_name": "gateway", "static_configs": [{"targets": [f"127.0.0.1:{target}"]}]}
    settings = {"global": {"scrape_interval": "1s"}, "scrape_configs": [scrape]}
    file = folder / "prometheus.yml"
    file.write_text(json.dumps(settings))  # JSON is YAML
    return file


async def get(url: str) -> Any:
    """Return the data of an answer of Prometheus' API; None while it does not answer."""
    try:
        async with ClientSession() as session, session.get(url) as answer:
            return (await answer.json())["data"] if answer.status == 200 else None
    except ClientError:
        return None


def querying(promtool: str, address: str) -> Query:
    """Return a function that asks as people do, with promtool."""

    async def query(expression: str) -> list[dict[str, Any]]:
        process = await asyncio.create_subprocess_exec(
            promtool, "query", "instant", "--format=json", address, expression,
            stdout=PIPE, stderr=PIPE,
        )  # fmt: skip
        out, _ = await process.communicate()
        return [] if process.returncode else json.loads(out) or []

    return query


async def test_promtool_finds_nothing_to_mend_in_the_metrics(
    gateway: Gateway, needs: Needs
) -> None:
    async with (
        ClientSession() as session,
        session.get(f"http://127.0.0.1:{gateway.admin}/metrics") as answer,
    ):
        text = await answer.read()
    process = await asyncio.create_subprocess_exec(
        needs("promtool"), "check", "metrics", stdin=PIPE, stdout=PIPE, stderr=STDOUT
    )
    said, _ = await process.communicate(text)
    assert (process.returncode, said.decode()) == (0, "")


async def test_prometheus_scrapes_every_promised_metric_with_its_labels(
    gateway: Gateway, tmp_path: Path, needs: Needs
) -> None:
    program, promtool = needs("prometheus"), needs("promtool")
    async with prometheus(program, tmp_path, gateway.admin) as address:
        query = querying(promtool, address)

        async def scraped() -> bool:
            found = await query('gateway_events_total{type="page",outcome="accepted"} == 1')
            return bool(found)

        await eventually(scraped, 30, "Prometheus knows of the page", every=0.3)
        kinds = await get(f"{address}/api/v1/metadata")
        samples = await query('{job="gateway"}')
        # What never happened is 0, not absent: else its first time would be no increase.
        never = await query("gateway_missing_events_total == 0")
        never += await query('gateway_dead_letters_total{reason="refused"} == 0')
        never += await query('gateway_deliveries_total{outcome="dead"} == 0')
    found = {name: (kinds[name][0]["type"], _labels(name, samples)) for name in PROMISED}
    assert found == PROMISED
    assert sorted(each["metric"]["destination"] for each in never) == sorted(DESTINATIONS * 3)


def _labels(name: str, samples: list[dict[str, Any]]) -> set[str]:
    """Return the labels of a metric's series; there must be one at least."""
    series = [each["metric"] for each in samples]
    of_it = [set(each) for each in series if each["__name__"] in {name, f"{name}_bucket"}]
    assert of_it, f"{name} has no sample"
    return set().union(*of_it) - ADDED
