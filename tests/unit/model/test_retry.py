"""When to try again: the arithmetic."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.model.attempt import Again, Answered, Unanswered
from gateway.model.breaker import FAILURES, Breaker
from gateway.model.bucket import Bucket
from gateway.model.outcome import Reason
from gateway.model.retry import (
    LONGEST_SECONDS,
    RETRY_AFTER_SECONDS,
    backoff_seconds,
    retry_after_seconds,
    transient,
)

NOW_MS = 1_795_000_000_000
DATE = format_datetime(
    datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=NOW_MS, seconds=60), usegmt=True
)


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_delays_grow_and_stay_bounded(attempts: int, draw: float) -> None:
    now, later = backoff_seconds(attempts, draw), backoff_seconds(attempts + 1, draw)
    assert 0 < now <= later <= LONGEST_SECONDS


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("30", 30),
        ("0.5", 0.5),
        (DATE, 60),
        (str(NOW_MS + 45_000), 45),
        (str(NOW_MS // 1000 + 45), 45),
        ("-5", 0),
        ("999999", RETRY_AFTER_SECONDS),
        ("soon", None),
        ("nan", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read_in_every_form(header: str | None, seconds: float | None) -> None:
    assert retry_after_seconds(header, NOW_MS) == seconds


@pytest.mark.parametrize("wrong_ms", [-7_200_000, 0, 7_200_000])
def test_an_instant_counts_from_the_answers_own_date(wrong_ms: int) -> None:
    answered = format_datetime(datetime.fromtimestamp(NOW_MS / 1000, UTC), usegmt=True)
    for header in (DATE, str(NOW_MS + 60_000), str(NOW_MS // 1000 + 60), "60"):
        assert retry_after_seconds(header, NOW_MS + wrong_ms, answered) == 60
    assert retry_after_seconds(DATE, NOW_MS, "yesterday") == 60


@given(st.text(max_size=30), st.none() | st.text(max_size=30))
def test_no_retry_after_breaks_anything(header: str, date: str | None) -> None:
    seconds = retry_after_seconds(header, NOW_MS, date)
    assert seconds is None or 0 <= seconds <= RETRY_AFTER_SECONDS


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, Reason.UNAUTHORIZED),
        (403, Reason.UNAUTHORIZED),
        (408, Reason.UNAVAILABLE),
        (429, Reason.RATE_LIMITED),
        (500, Reason.UNAVAILABLE),
        (503, Reason.UNAVAILABLE),
        (504, Reason.NO_ANSWER),
        (599, Reason.UNAVAILABLE),
    ],
)
def test_a_status_that_means_later(status: int, reason: Reason) -> None:
    again = transient(Answered(status, "7", b""), NOW_MS)
    assert again is not None
    assert (again.reason, again.after_seconds) == (reason, 7.0)
    assert again.detail.startswith(f"HTTP {status}")
    assert ("is the key right" in again.detail) == (reason is Reason.UNAUTHORIZED)


@pytest.mark.parametrize("status", [200, 204, 301, 400, 404, 409, 422])
def test_other_statuses_are_the_destinations_to_judge(status: int) -> None:
    assert transient(Answered(status, None, b""), NOW_MS) is None


def test_no_answer_says_itself_what_it_means() -> None:
    assert transient(Unanswered(Reason.UNREACHABLE, "refused"), NOW_MS) == Again(
        Reason.UNREACHABLE, detail="refused"
    )


def test_the_breaker_opens_after_failures_in_a_row_and_tries_one() -> None:
    breaker = Breaker()
    for _ in range(FAILURES):
        assert breaker.wait_seconds(0) == 0
        breaker.begin()
        breaker.failure(0, 1.0)
    wait = breaker.wait_seconds(0)
    assert breaker.is_open
    assert wait is not None
    assert wait > 0
    assert breaker.wait_seconds(wait) == 0
    breaker.begin()
    assert breaker.wait_seconds(wait) is None
    breaker.success()
    assert (breaker.is_open, breaker.wait_seconds(wait)) == (False, 0)


def test_a_success_between_failures_keeps_it_closed() -> None:
    breaker = Breaker()
    for _ in range(FAILURES * 3):
        breaker.failure(0, 0.5)
        breaker.success()
    assert not breaker.is_open


@given(st.floats(0.1, 1000), st.floats(0, 1), st.lists(st.floats(0, 2), max_size=200))
def test_a_bucket_never_gives_more_than_its_rate_and_burst(
    rate: float, burst_seconds: float, pauses: list[float]
) -> None:
    bucket, now, taken = Bucket(rate, 0, burst_seconds), 0.0, 0
    for pause in pauses:
        now += pause
        while bucket.wait_seconds(now) == 0:
            bucket.take()
            taken += 1
    assert taken <= max(1.0, rate * burst_seconds) + rate * now + 1e-6
