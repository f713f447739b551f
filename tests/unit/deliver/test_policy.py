"""What follows from a failed try: the budgets."""

import pytest

from gateway.deliver import policy
from gateway.deliver.lanes import Entry
from gateway.model.attempt import Again, Item, Tried
from gateway.model.journal import Postponed, Settled
from gateway.model.outcome import Outcome, Reason
from tests.unit.deliver.world import settings, view

DAY_MS = 86_400_000


def entry(*, repeatable: bool = True) -> Entry:
    return Entry(
        7, 0, view("v1"), Item("views", None, repeatable=repeatable, body=None), attempts=1
    )


@pytest.mark.parametrize(
    ("reason", "after_seconds", "wait_ms"),
    [(Reason.UNAVAILABLE, None, 500), (Reason.RATE_LIMITED, 30.0, 30_000)],
)
def test_it_is_tried_again_by_backoff_or_when_the_destination_says(
    reason: Reason, after_seconds: float | None, wait_ms: int
) -> None:
    again = Again(reason, after_seconds)
    assert policy.after_failure(entry(), again, settings(), 1000, 0.5) == Postponed(
        7, reason, 1000 + wait_ms
    )


def test_past_its_time_it_is_buried_though_it_was_just_tried() -> None:
    failed, again = entry(), Again(Reason.UNAVAILABLE, detail="HTTP 503")
    policy.learn(failed, again, 5)
    found = policy.after_failure(failed, again, settings(), 4 * DAY_MS, 0.5)
    assert found == Settled(7, Outcome.DEAD, Reason.EXPIRED, "last try: unavailable HTTP 503")
    assert policy.before_attempt(failed, settings(), 4 * DAY_MS) is not None


HOUR_MS = 3_600_000


@pytest.mark.parametrize(
    ("first_failed_ms", "at_ms", "over"),
    [
        (4 * HOUR_MS, 5 * HOUR_MS - 1, False),
        (4 * HOUR_MS, 5 * HOUR_MS, True),
        (None, HOUR_MS - 1, False),  # a crash: from when the log took it
        (None, HOUR_MS, True),
    ],
)
def test_in_doubt_it_is_repeated_only_while_the_destination_can_tell(
    first_failed_ms: int | None, at_ms: int, *, over: bool
) -> None:
    doubted = entry()
    doubted.item.repeatable_seconds = 3600.0
    doubted.first_failed_ms = first_failed_ms
    assert policy.before_attempt(doubted, settings(), at_ms) is None, "not in doubt"
    doubted.item.tried = Tried.IN_DOUBT
    found = policy.before_attempt(doubted, settings(), at_ms)
    assert (found is not None and found.reason is Reason.UNKNOWN) is over
    assert policy.before_attempt(doubted, settings(on_unknown="repeat"), at_ms) is None
    doubted.item.repeatable_seconds = None
    assert policy.before_attempt(doubted, settings(), at_ms) is None, "it can tell for good"


def test_being_asked_for_less_does_not_count_as_its_failure() -> None:
    failed = entry()
    policy.learn(failed, Again(Reason.RATE_LIMITED), 5)
    assert failed.first_failed_ms is None
    policy.learn(failed, Again(Reason.UNAVAILABLE), 6)
    policy.learn(failed, Again(Reason.UNAVAILABLE), 9)
    assert failed.first_failed_ms == 6


def test_being_asked_for_less_buries_nothing_for_failing_alone() -> None:
    failed = entry()
    policy.learn(failed, Again(Reason.UNAVAILABLE), 5)
    failed.alone_since_ms = 6
    for reason, dead in ((Reason.RATE_LIMITED, False), (Reason.UNAVAILABLE, True)):
        found = policy.after_failure(failed, Again(reason), settings(), 1_000_000, 0.5)
        assert isinstance(found, Settled) is dead
