"""What an HTTP answer says, whatever the destination: what the destinations share. Pure."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson

from gateway.model.attempt import Again, Answered, Reply, Unanswered, Verdict
from gateway.model.journal import excerpt
from gateway.model.outcome import Reason
from gateway.model.retry import transient

_SETTINGS = frozenset({402, 404, 405, 407, 421})
"""With every redirect, statuses that speak of the address or the account, not of an event."""


def succeeded(status: int) -> bool:
    """Any 2xx."""
    return 200 <= status < 300  # noqa: PLR2004 - HTTP's successes


def judge(
    answer: Answered | Unanswered, now_ms: int, said: Callable[[Answered], Verdict]
) -> Verdict:
    """Say to try again where that is what an answer means everywhere; else ask `said`."""
    if isinstance(answer, Unanswered):
        return Again(answer.reason, detail=answer.detail)
    return transient(answer, now_ms) or said(answer)


def wrong_setting(answer: Answered) -> Again | None:
    """Say to try again where an answer looks like a wrong address: events wait for its mending."""
    if answer.status in _SETTINGS or 300 <= answer.status < 400:  # noqa: PLR2004 - redirects
        return Again(Reason.UNAUTHORIZED, detail=f"HTTP {answer.status}: is the address right?")
    return None


def hide(answer: Answered | Unanswered, secret: str) -> Answered | Unanswered:
    """Take a secret out of an answer that repeats it, before anybody may see it."""
    if isinstance(answer, Unanswered):
        return answer
    body = answer.body.replace(secret.encode(), b"***")
    # As some write it in JSON.
    return replace(answer, body=body.replace(secret.replace("/", "\\/").encode(), b"***"))


def reply(answer: Answered | Unanswered, verdicts: tuple[Verdict, ...]) -> Reply:
    """Put verdicts beside the answer that they were read from."""
    if isinstance(answer, Unanswered):
        return Reply(verdicts, answer=answer.detail)
    return Reply(verdicts, answer.status, excerpt(answer.body))


def json_object(body: bytes) -> dict[str, Any]:
    """Read a JSON object; empty when the body is anything else."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}
