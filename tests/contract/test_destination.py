"""What holds for every destination, whatever it is; over HTTP against one scripted server.

What it must know of each kind of destination is in `cases.py`.
"""

import asyncio
import pkgutil
from collections.abc import AsyncIterator, Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any, get_args

import orjson
import pytest
from aiohttp.test_utils import TestServer, unused_port
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.adapters import destinations
from gateway.adapters.http_client import HttpClients
from gateway.deliver.settings import EventType
from gateway.model.attempt import Again, Done, Item, Reply, Skip
from gateway.model.outcome import Outcome, Reason
from gateway.model.retry import RETRY_AFTER_SECONDS
from gateway.ports import Destination
from gateway.settings.sections import AnyDestination
from tests.contract.cases import CASES, Documented
from tests.contract.scripted import (
    Answer,
    Scripted,
    dripping,
    endless,
    endless_head,
    hang_up,
    no_http,
    silence,
    slow_head,
    status,
    unfinished,
)
from tests.sample import NOW_MS, envelope

EVERY_KIND = [(name, kind) for name, case in CASES.items() for kind in case.kinds]
OVER_HTTP = [(name, kind) for name, kind in EVERY_KIND if CASES[name].http]
every_kind = pytest.mark.parametrize(("name", "kind"), EVERY_KIND)
over_http = pytest.mark.parametrize(("name", "kind"), OVER_HTTP)


def test_no_destination_is_forgotten() -> None:
    assert {case.settings for case in CASES.values()} == set(get_args(AnyDestination))
    start = f"{destinations.__name__}."
    covered = {
        case.settings.__module__.removeprefix(start).split(".")[0] for case in CASES.values()
    }
    assert {module.name for module in pkgutil.iter_modules(destinations.__path__)} == covered


Send = Callable[..., Any]


@pytest.fixture
async def send(
    scripted: Scripted, clients: HttpClients, tmp_path: Path
) -> AsyncIterator[Callable[..., Any]]:
    """Prepare events of a kind and send them as one request."""
    started: list[Destination] = []

    async def run(
        name: str, kind: str, events: int = 1, url: str | None = None, **more: Any
    ) -> Reply:
        case = CASES[name]
        more.setdefault("timeout_seconds", 5.0)
        at = scripted.url if url is None else url
        destination = case.make(at, clients, tmp_path / "out", **more)
        await destination.start()
        started.append(destination)
        items = prepared(destination, [case.kinds[kind][0]] * events)
        assert {item.kind for item in items} == {kind}
        reply = await destination.send(destination.request(items))
        assert len(reply.verdicts) == events
        assert_words(reply, case.secret)
        return reply

    yield run
    for destination in started:
        await destination.stop()


def prepared(destination: Destination, types: list[str]) -> list[Item]:
    made = [destination.prepare(envelope(each), NOW_MS) for each in types]
    return [item for item in made if isinstance(item, Item)]


def assert_words(reply: Reply, secret: str) -> None:
    """Whatever came of a request is said in words, and without a secret."""
    for verdict in reply.verdicts:
        if verdict != Done(Outcome.DELIVERED):
            assert verdict.detail, verdict
        assert "Traceback" not in verdict.detail
        assert secret not in verdict.detail
    assert reply.answer or reply.status is not None or reply.verdicts[0] == Done(Outcome.DELIVERED)
    assert secret not in reply.answer


def reason(reply: Reply) -> Reason | None:
    """Return the one reason to try again that every verdict gives."""
    (one,) = {verdict.reason for verdict in reply.verdicts}
    assert all(isinstance(verdict, Again) for verdict in reply.verdicts)
    return one


@pytest.mark.parametrize("name", CASES)
def test_all_settings_but_address_and_secret_have_a_default(name: str) -> None:
    needed = {
        field for field, info in CASES[name].settings.model_fields.items() if info.is_required()
    }
    assert needed <= {"kind", "base_url", "api_key", "url", "secrets", "path"}


@pytest.mark.parametrize("name", CASES)
def test_what_it_takes_by_default_it_can_send(
    name: str, clients: HttpClients, tmp_path: Path
) -> None:
    case = CASES[name]
    destination = case.make("http://127.0.0.1:1", clients, tmp_path)
    for event_type in case.settings.model_fields["events"].default:
        assert isinstance(destination.prepare(envelope(event_type), NOW_MS), Item)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("event_type", get_args(EventType))
@pytest.mark.parametrize("consent", ["full", "limited"])
def test_every_event_becomes_an_item_or_a_reason(
    name: str, event_type: str, consent: Any, clients: HttpClients, tmp_path: Path
) -> None:
    destination = CASES[name].make("http://127.0.0.1:1", clients, tmp_path)
    bare = envelope(event_type, {}, consent=consent)
    match destination.prepare(bare, NOW_MS):
        case Item() as item:
            assert destination.batch_limit(item.kind) >= 1
            assert destination.request([item]).items == (item,)
        case Skip(reason=why):
            assert why in Reason


@every_kind
async def test_a_success_delivers(name: str, kind: str, send: Send, scripted: Scripted) -> None:
    case = CASES[name]
    if case.http:
        scripted.expect(status(200, case.kinds[kind][1]))
    reply = await send(name, kind)
    assert reply.verdicts == (Done(Outcome.DELIVERED),)
    assert reply.status == (200 if case.http else None)


@over_http
async def test_a_request_says_what_it_carries_and_proves_who_sends_it(
    name: str, kind: str, send: Send, scripted: Scripted
) -> None:
    scripted.expect(status(200, CASES[name].kinds[kind][1]))
    await send(name, kind)
    assert scripted.got[0].headers["content-type"] == "application/json"
    assert CASES[name].proves(scripted.got[0])
    assert CASES[name].secret not in scripted.got[0].path
    assert orjson.loads(scripted.got[0].body)


@over_http
@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (307, Reason.UNAUTHORIZED),
        (401, Reason.UNAUTHORIZED),
        (403, Reason.UNAUTHORIZED),
        (404, Reason.UNAUTHORIZED),
        (405, Reason.UNAUTHORIZED),
        (408, Reason.UNAVAILABLE),
        (425, Reason.UNAVAILABLE),
        (429, Reason.RATE_LIMITED),
        (500, Reason.UNAVAILABLE),
        (502, Reason.UNAVAILABLE),
        (503, Reason.UNAVAILABLE),
        (504, Reason.NO_ANSWER),
        (520, Reason.UNAVAILABLE),
    ],
)
async def test_an_answer_that_speaks_of_the_destination_is_tried_again(
    name: str, kind: str, code: int, expected: Reason, send: Send, scripted: Scripted
) -> None:
    scripted.expect(status(code, "<html>no</html>", location="/elsewhere"))
    reply = await send(name, kind)
    assert reason(reply) is expected
    assert (reply.status, reply.answer) == (code, "<html>no</html>")


@over_http
@pytest.mark.parametrize("code", [400, 409, 413, 422])
async def test_an_event_refused_alone_is_dead(
    name: str, kind: str, code: int, send: Send, scripted: Scripted
) -> None:
    scripted.expect(status(code, '{"error": {"code": "x", "message": "bad sku"}}'))
    (verdict,) = (await send(name, kind)).verdicts
    assert isinstance(verdict, Done)
    assert (verdict.outcome, verdict.reason) == (Outcome.DEAD, Reason.REFUSED)
    assert "bad sku" in verdict.detail


THEIRS_MS = NOW_MS + 3_600_000
"""Their clock is an hour ahead of ours."""
RETRY_AFTER = {
    "seconds": "30",
    "date": formatdate(THEIRS_MS // 1000 + 30, usegmt=True),
    "epoch seconds": str(THEIRS_MS // 1000 + 30),
    "epoch milliseconds": str(THEIRS_MS + 30_000),
}


@over_http
@pytest.mark.parametrize("form", RETRY_AFTER)
async def test_retry_after_is_obeyed_in_every_form(
    name: str, kind: str, form: str, send: Send, scripted: Scripted
) -> None:
    date = formatdate(THEIRS_MS // 1000, usegmt=True)
    scripted.expect(status(429, retry_after=RETRY_AFTER[form], date=date))
    (verdict,) = (await send(name, kind)).verdicts
    assert isinstance(verdict, Again)
    assert verdict.after_seconds == pytest.approx(30, abs=1)


@over_http
@pytest.mark.parametrize("code", [429, 503])
@pytest.mark.parametrize("senseless", ["soon", "", "nan", "1e999", "9" * 400, "Fri, 99 Foo 2026"])
async def test_a_retry_after_that_makes_no_sense_is_no_cause_for_alarm(
    name: str, kind: str, code: int, senseless: str, send: Send, scripted: Scripted
) -> None:
    scripted.expect(status(code, retry_after=senseless))
    (verdict,) = (await send(name, kind)).verdicts
    assert isinstance(verdict, Again)
    assert verdict.after_seconds is None or 0 <= verdict.after_seconds <= RETRY_AFTER_SECONDS


@pytest.mark.parametrize(
    ("name", "documented"),
    [(name, each) for name, case in CASES.items() for each in case.documented],
    ids=str,
)
async def test_an_answer_that_is_documented_means_what_it_says(
    name: str, documented: Documented, send: Send, scripted: Scripted
) -> None:
    scripted.expect(status(documented.status, documented.body, location="/elsewhere"))
    reply = await send(name, documented.kind)
    (verdict,) = reply.verdicts
    outcome = verdict.outcome if isinstance(verdict, Done) else None
    assert (outcome, verdict.reason) == (documented.outcome, documented.reason)
    assert reply.status == documented.status


IN_BATCHES = [(name, kind) for name, kind in OVER_HTTP if CASES[name].batches]


@pytest.mark.parametrize(("name", "kind"), IN_BATCHES)
@pytest.mark.parametrize("code", [400, 413, 422])
async def test_a_batch_that_is_refused_is_to_be_split(
    name: str, kind: str, code: int, send: Send, scripted: Scripted
) -> None:
    scripted.expect(status(code, "one of these is wrong"))
    reply = await send(name, kind, events=3)
    assert reason(reply) is Reason.SPLIT


@over_http
@pytest.mark.parametrize("failure", [silence, hang_up, no_http, slow_head, endless_head])
async def test_without_an_answer_a_request_is_in_doubt(
    name: str, kind: str, failure: Answer, send: Send, scripted: Scripted
) -> None:
    scripted.expect(failure)
    reply = await send(name, kind, timeout_seconds=0.7)
    assert reason(reply) is Reason.NO_ANSWER
    assert reply.status is None


@over_http
async def test_a_refused_connection_was_never_sent(name: str, kind: str, send: Send) -> None:
    reply = await send(name, kind, url=f"http://127.0.0.1:{unused_port()}")
    assert reason(reply) is Reason.UNREACHABLE


@over_http
async def test_an_unknown_host_was_never_sent(name: str, kind: str, send: Send) -> None:
    assert reason(await send(name, kind, url="https://no.invalid")) is Reason.UNREACHABLE


@over_http
async def test_a_certificate_that_nobody_vouches_for_gets_nothing(
    name: str, kind: str, send: Send, self_signed: TestServer
) -> None:
    reply = await send(name, kind, url=str(self_signed.make_url("")).rstrip("/"))
    assert reason(reply) is Reason.UNREACHABLE
    assert "certificate" in reply.answer


@over_http
async def test_a_server_without_tls_was_never_sent(
    name: str, kind: str, send: Send, scripted: Scripted
) -> None:
    url = scripted.url.replace("http:", "https:")
    assert reason(await send(name, kind, url=url)) is Reason.UNREACHABLE


NONSENSE = [
    *(b"{nonsense", b"[]", b"{}", b"null", b'"ok"', b"NaN", b"\xff\xfe", b"<html>log in</html>"),
    b"[" * 60_000,
    b'{"id":' * 10_000,
    b'{"link": 1e999, "sale": "\\ud800"}',
]


@over_http
@pytest.mark.parametrize("body", NONSENSE, ids=range(len(NONSENSE)))
async def test_a_success_with_another_body_counts_only_where_the_body_says_nothing(
    name: str, kind: str, body: bytes, send: Send, scripted: Scripted
) -> None:
    scripted.expect(status(200, body))
    (verdict,) = (await send(name, kind)).verdicts
    assert verdict.reason is (Reason.NO_ANSWER if CASES[name].reads_answers else None)


@over_http
@pytest.mark.parametrize("shape", ["dripping", "endless", "cut", "stuck"])
async def test_a_success_that_does_not_end_counts_only_where_the_body_says_nothing(
    name: str, kind: str, shape: str, send: Send, scripted: Scripted
) -> None:
    scripted.expect(
        {
            "dripping": dripping(200),
            "endless": endless(200, asyncio.Event()),
            "cut": unfinished(200, b'{"link": {"i', then=hang_up),
            "stuck": unfinished(200, b'{"link": {"i', then=silence),
        }[shape]
    )
    reply = await send(name, kind, timeout_seconds=0.5)
    (verdict,) = reply.verdicts
    assert verdict.reason is (Reason.NO_ANSWER if CASES[name].reads_answers else None)
    assert reply.status == 200
    assert len(reply.answer) <= 2048


@over_http
async def test_a_secret_that_an_answer_repeats_is_not_shown(
    name: str, kind: str, send: Send, scripted: Scripted
) -> None:
    secret = CASES[name].secret
    body = orjson.dumps({"error": {"code": "x", "message": f"key {secret} is odd"}})
    scripted.expect(status(422, body))
    reply = await send(name, kind)
    assert secret not in repr(reply.verdicts) + reply.answer
    assert "***" in reply.answer


@pytest.mark.parametrize("name", CASES)
@given(types=st.lists(st.sampled_from(get_args(EventType)), max_size=60), limit=st.integers(1, 7))
@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_what_is_prepared_is_what_a_request_holds_in_order_and_within_its_limit(
    name: str, types: list[str], limit: int, tmp_path: Path
) -> None:
    batches = {"batch_events": limit} if CASES[name].batches else {}
    destination = CASES[name].make("http://127.0.0.1:1", HttpClients(1), tmp_path, **batches)
    items = prepared(destination, types)
    for kind in {item.kind for item in items}:
        of_kind = [item for item in items if item.kind == kind]
        most = destination.batch_limit(kind)
        assert most == (limit if batches else 1)
        requests = [
            destination.request(of_kind[start : start + most])
            for start in range(0, len(of_kind), most)
        ]
        assert all(len(request.items) <= most for request in requests)
        assert [item for request in requests for item in request.items] == of_kind
        assert [body for request in requests for body in carried(request.body)] == [
            item.body.get("change", item.body) if kind == "customer" else item.body
            for item in of_kind
        ]


def carried(body: bytes) -> list[Any]:
    """Return what a request's body carries: an array, one object, or one object on each line."""
    lines = [orjson.loads(line) for line in body.splitlines()]
    return lines[0] if isinstance(lines[0], list) else lines


INSECURE = ["http://shop.example", "https://u:p@h.example", "ftp://h", "h", ""]
HTTP = [name for name, case in CASES.items() if case.http]


@pytest.mark.parametrize("url", INSECURE)
@pytest.mark.parametrize("name", HTTP)
def test_an_address_that_would_give_secrets_away_is_refused(name: str, url: str) -> None:
    case = CASES[name]
    with pytest.raises(ValueError, match=case.address):
        case.settings.model_validate(case.at(url))


@pytest.mark.parametrize("name", HTTP)
def test_a_secret_is_not_in_what_its_settings_show(name: str) -> None:
    case = CASES[name]
    written = orjson.dumps(case.at("https://h.example")).decode()
    with_line_end = orjson.loads(written.replace(case.secret, f"{case.secret}\\n"))
    chosen = case.settings.model_validate(with_line_end)
    assert case.secret not in repr(chosen) + str(chosen.model_dump())
