"""The admin port: metrics for Prometheus, and what Kubernetes asks."""

import re

from aiohttp.test_utils import TestClient, TestServer

from gateway import metrics
from gateway.http.admin import Readiness, create_admin

NAMES = {
    "events_total",
    "rejections_total",
    "request_seconds",
    "publish_seconds",
    "buffer_lag_events",
    "buffer_oldest_event_age_seconds",
    "retention_left_seconds",
    "deliveries_total",
    "delivery_attempts_total",
    "attempt_seconds",
    "event_age_seconds",
    "batch_events",
    "breaker_open",
    "dead_letters_total",
    "missing_events_total",
    "paused",
    "hooks_total",
    "polls_total",
    "polled_events_total",
    "window_records",
    "window_seconds",
    "build_info",
}


async def answer(path: str, readiness: Readiness | None = None) -> tuple[int, str]:
    app = create_admin(readiness or Readiness())
    async with TestClient(TestServer(app)) as client, client.get(path) as response:
        return response.status, await response.text()


async def test_every_metric_of_the_design_is_there_with_a_sentence() -> None:
    status, text = await answer("/metrics")
    assert status == 200
    described = dict(re.findall(r"^# HELP gateway_(\w+) (.+)$", text, re.MULTILINE))
    assert set(described) == NAMES
    assert all(sentence.endswith(".") for sentence in described.values())


async def test_the_process_is_measured_too() -> None:
    _, text = await answer("/metrics")
    assert "process_resident_memory_bytes" in text
    assert "python_info" in text


async def test_a_count_is_seen() -> None:
    metrics.MISSING_EVENTS.labels("somewhere").inc(3)
    _, text = await answer("/metrics")
    assert 'gateway_missing_events_total{destination="somewhere"} 3.0' in text
    assert "_created" not in text


async def test_it_is_ready_only_between_the_first_connection_and_the_end() -> None:
    readiness = Readiness()
    status, text = await answer("/readyz", readiness)
    assert (status, "starting" in text) == (503, True)
    readiness.started()
    assert await answer("/readyz", readiness) == (200, "ready\n")
    readiness.stopping()
    status, text = await answer("/readyz", readiness)
    assert (status, "stopping" in text) == (503, True)


async def test_it_lives_however_ready_it_is() -> None:
    assert await answer("/livez") == (200, "ok\n")
