"""Every metric, declared once. Label values come from closed sets or from the configuration.

Prometheus gets them from the admin port (`gateway/http/admin.py`); ages and durations are in
seconds, sizes in bytes. A counter's `_total` is added by the library.
"""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

# They would be a second series for each one, which nobody asks for.
disable_created_metrics()  # type: ignore[no-untyped-call] # the library lacks the annotation

REGISTRY = CollectorRegistry(auto_describe=True)
"""Our own, so that a library's metrics never appear beside ours unasked."""

ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)

_FAST = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Local work: a request is answered in milliseconds unless the disk or the broker stalls."""
_REMOTE = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Another system's answer, up to the longest `timeout_seconds` that makes sense."""
_AGES = (0.5, 1, 2.5, 5, 15, 60, 300, 900, 3_600, 14_400, 43_200, 86_400, 172_800, 259_200, 604_800)
"""From a batch's wait to a destination that was down for as long as the log keeps records."""
_SIZES = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000)
"""Up to the largest `batch_events`."""

EVENTS = Counter(
    "gateway_events",
    "Events taken in, by what ingest said of each: accepted, duplicate, rejected or dropped.",
    ["site", "type", "outcome"],
    registry=REGISTRY,
)
REJECTIONS = Counter(
    "gateway_rejections",
    "Events that ingest refused, by reason.",
    ["site", "reason"],
    registry=REGISTRY,
)
HOOKS = Counter(
    "gateway_hooks",
    "Webhooks that sources got, by what came of them; all but the last three are answered 200:"
    " taken, known, unused, unreadable, wrong_signature, stale, unavailable.",
    ["source", "outcome"],
    registry=REGISTRY,
)
POLLS = Counter(
    "gateway_polls",
    "Rounds of a source's polling, by whether they came to their end: done or failed.",
    ["source", "outcome"],
    registry=REGISTRY,
)
POLLED_EVENTS = Counter(
    "gateway_polled_events",
    "Events that polling found and webhooks had not brought.",
    ["source"],
    registry=REGISTRY,
)
REQUEST_SECONDS = Histogram(
    "gateway_request_seconds",
    "From a request's head to its answer on the public port, the wait for the buffer included.",
    ["route", "status"],
    buckets=_FAST,
    registry=REGISTRY,
)
PUBLISH_SECONDS = Histogram(
    "gateway_publish_seconds",
    "From giving records to the buffer to its acknowledgement that they are durable.",
    buckets=_FAST,
    registry=REGISTRY,
)
BUFFER_LAG_EVENTS = Gauge(
    "gateway_buffer_lag_events",
    "Records in the log that a destination has not committed yet.",
    ["destination"],
    registry=REGISTRY,
)
BUFFER_OLDEST_EVENT_AGE_SECONDS = Gauge(
    "gateway_buffer_oldest_event_age_seconds",
    "Age of the oldest record that has no outcome at a destination yet; 0 when there is none.",
    ["destination"],
    registry=REGISTRY,
)
RETENTION_LEFT_SECONDS = Gauge(
    "gateway_retention_left_seconds",
    "How long until the log may remove the oldest record that a destination still needs.",
    ["destination"],
    registry=REGISTRY,
)
DELIVERIES = Counter(
    "gateway_deliveries",
    "Events that have their outcome at a destination.",
    ["destination", "outcome"],
    registry=REGISTRY,
)
DELIVERY_ATTEMPTS = Counter(
    "gateway_delivery_attempts",
    "Requests made, by endpoint and HTTP status; the status is `none` where no answer came.",
    ["destination", "endpoint", "status"],
    registry=REGISTRY,
)
ATTEMPT_SECONDS = Histogram(
    "gateway_attempt_seconds",
    "From starting a request to a destination to its answer, or to giving up on one.",
    ["destination"],
    buckets=_REMOTE,
    registry=REGISTRY,
)
EVENT_AGE_SECONDS = Histogram(
    "gateway_event_age_seconds",
    "From the receipt of an event to its outcome at a destination.",
    ["destination"],
    buckets=_AGES,
    registry=REGISTRY,
)
BATCH_EVENTS = Histogram(
    "gateway_batch_events",
    "Events sent in one request.",
    ["destination"],
    buckets=_SIZES,
    registry=REGISTRY,
)
BREAKER_OPEN = Gauge(
    "gateway_breaker_open",
    "1 while a destination that fails as a whole, or in all of a kind, is paused, else 0.",
    ["destination"],
    registry=REGISTRY,
)
PAUSED = Gauge(
    "gateway_paused",
    "1 while requests of a kind are paused as by a wrong setting (address, key, rights), else 0.",
    ["destination"],
    registry=REGISTRY,
)
DEAD_LETTERS = Counter(
    "gateway_dead_letters",
    "Events buried, by reason; `ingest` as destination stands for events refused there.",
    ["destination", "reason"],
    registry=REGISTRY,
)
MISSING_EVENTS = Counter(
    "gateway_missing_events",
    "Records that the log had removed before a destination was done with them: must stay 0.",
    ["destination"],
    registry=REGISTRY,
)
WINDOW_RECORDS = Gauge(
    "gateway_window_records",
    "Records that the widest dedup window in this process holds.",
    registry=REGISTRY,
)
WINDOW_SECONDS = Gauge(
    "gateway_window_seconds",
    "How far back the dedup window reaches; below `window_seconds` the count cuts it short.",
    registry=REGISTRY,
)
BUILD_INFO = Gauge(
    "gateway_build_info",
    "Always 1; the labels say what is running.",
    ["version", "python"],
    registry=REGISTRY,
)
