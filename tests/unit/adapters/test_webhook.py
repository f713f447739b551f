"""The webhook: what is sent, how it is signed, what its settings refuse."""

import base64
from datetime import timedelta
from typing import Any

import orjson
import pytest
from pydantic import ValidationError
from standardwebhooks import Webhook, WebhookVerificationError

from gateway import __version__
from gateway.adapters.clock import SystemClock
from gateway.adapters.destinations.webhook import WebhookDestination, WebhookSettings
from gateway.model.attempt import Again, Answered, Done, Item, Reply, Unanswered
from gateway.model.envelope import Derived, Envelope
from gateway.model.instant import EPOCH
from gateway.model.outcome import Outcome, Reason
from tests.sample import NOW_MS, StoppedClock, envelope

OLD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEW = "whsec_" + base64.b64encode(b"n" * 64).decode()
URL = "https://hooks.example/in/T0K3N-of-the-account?pass=w0rd"


class Receiver:
    """The `HttpClient` port: keeps what was sent, answers as told."""

    def __init__(self) -> None:
        self.answer: Answered | Unanswered = Answered(204, None, b"")
        self.sent: list[tuple[str, str, dict[str, str], bytes]] = []

    async def exchange(
        self, method: str, url: str, headers: dict[str, str], body: bytes, timeout_seconds: float
    ) -> Answered | Unanswered:
        assert timeout_seconds == 15.0
        self.sent.append((method, url, headers, body))
        return self.answer


@pytest.fixture
def receiver() -> Receiver:
    return Receiver()


def chosen(**more: Any) -> WebhookSettings:
    return WebhookSettings.model_validate({"kind": "webhook", "url": URL, "secrets": [OLD], **more})


def made(receiver: Receiver, clock: Any = None, **more: Any) -> WebhookDestination:
    return WebhookDestination(chosen(**more), receiver, clock or StoppedClock())


async def send(destination: WebhookDestination, *events: Envelope) -> Reply:
    items = [destination.prepare(each, NOW_MS) for each in events]
    return await destination.send(
        destination.request([item for item in items if isinstance(item, Item)])
    )


SALE = envelope("sale", derived=Derived("close", "e-0"), metadata={"note": "å\u2028"})


async def test_a_batch_is_an_array_of_what_the_file_gets_too(receiver: Receiver) -> None:
    reply = await send(made(receiver), SALE, envelope("page"))
    ((method, url, headers, body),) = receiver.sent
    assert (method, url) == ("POST", URL)
    assert orjson.loads(body) == [SALE.public(), envelope("page").public()]
    assert headers["User-Agent"] == f"Gateway-Webhook/{__version__}"
    assert reply.verdicts == (Done(Outcome.DELIVERED),) * 2


async def test_a_batch_of_one_is_an_array_too(receiver: Receiver) -> None:
    await send(made(receiver), SALE)
    assert orjson.loads(receiver.sent[0][3]) == [SALE.public()]


async def test_without_batches_an_event_is_an_object(receiver: Receiver) -> None:
    destination = made(receiver, batch=False)
    assert destination.batch_limit("events") == 1
    await send(destination, SALE)
    assert orjson.loads(receiver.sent[0][3]) == SALE.public()


@pytest.mark.parametrize("secret", [OLD, NEW])
async def test_the_receiver_verifies_with_either_secret_while_they_change(
    receiver: Receiver, secret: str
) -> None:
    await send(made(receiver, SystemClock(), secrets=[NEW, OLD]), SALE)
    _, _, headers, body = receiver.sent[0]
    assert Webhook(secret).verify(body, headers) == [SALE.public()]
    assert len(headers["webhook-signature"].split(" ")) == 2


async def test_a_body_that_was_changed_or_another_secret_does_not_verify(
    receiver: Receiver,
) -> None:
    await send(made(receiver, SystemClock()), SALE)
    _, _, headers, body = receiver.sent[0]
    for secret, said in ((OLD, body.replace(b"4990", b"1")), (NEW, body)):
        with pytest.raises(WebhookVerificationError, match="No matching signature"):
            Webhook(secret).verify(said, headers)


def test_the_schemes_published_example_is_signed_alike(receiver: Receiver) -> None:
    (signer,) = made(receiver)._signers
    moment = EPOCH + timedelta(seconds=1_614_265_330)
    signature = signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", moment, '{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_a_retry_has_the_same_id_and_its_own_time(receiver: Receiver) -> None:
    clock = StoppedClock()
    destination = made(receiver, clock)
    await send(destination, SALE, envelope("page"))
    clock.ms += 60_000
    await send(made(receiver, clock), SALE, envelope("page"))  # by another process
    first, second = (headers for _, _, headers, _ in receiver.sent)
    assert first["webhook-id"] == second["webhook-id"]
    assert int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]) == 60
    assert first["webhook-signature"] != second["webhook-signature"]


async def test_other_events_have_another_id_without_a_full_stop_in_it(receiver: Receiver) -> None:
    destination = made(receiver)
    sent = [
        (SALE,),
        (envelope("sale"),),
        (envelope("page", id="a.b"),),
        (envelope("page", id="a"), envelope("page", id="b")),
        (envelope("page", id="b"), envelope("page", id="a")),
        (envelope("page", id="a"),),
    ]
    for events in sent:
        await send(destination, *events)
    found = [headers["webhook-id"] for _, _, headers, _ in receiver.sent]
    assert len(set(found)) == len(sent)
    assert not any("." in each for each in found)


def test_one_carts_updates_go_one_after_the_other_and_nothing_else_waits(
    receiver: Receiver,
) -> None:
    destination = made(receiver)
    cart, page = (destination.prepare(envelope(each), NOW_MS) for each in ("cart", "page"))
    assert isinstance(cart, Item)
    assert isinstance(page, Item)
    assert (cart.key, cart.repeatable) == ("shop/c-1", True)
    assert (page.key, page.repeatable) == (None, True)


async def test_a_receiver_that_is_gone_for_good_gets_nothing_and_nothing_is_buried(
    receiver: Receiver,
) -> None:
    receiver.answer = Answered(410, None, b"gone")
    reply = await send(made(receiver), SALE, envelope("page"))
    said = Again(Reason.UNAUTHORIZED, detail="HTTP 410: the receiver wants no more webhooks")
    assert reply.verdicts == (said, said)


async def test_what_may_be_a_token_of_the_address_is_not_shown(receiver: Receiver) -> None:
    receiver.answer = Answered(422, None, f"cannot POST {URL}, nor {OLD}".encode())
    reply = await send(made(receiver), SALE)
    shown = reply.answer + repr(reply.verdicts)
    assert "T0K3N" not in shown
    assert "w0rd" not in shown
    assert OLD not in shown
    assert "cannot POST" in shown


@pytest.mark.parametrize(
    "echo",
    [
        '{"url": "https:\\/\\/hooks.example\\/in\\/T0K3N-of-the-path?key=w0rd%2Fof%2Fit"}',
        '{"parts": ["in", "T0K3N-of-the-path"], "query": {"key": "w0rd/of/it"}}',
        '{"query": {"key": "w0rd\\/of\\/it"}}',
    ],
)
async def test_nor_is_it_where_the_receiver_writes_it_in_its_own_way(
    receiver: Receiver, echo: str
) -> None:
    receiver.answer = Answered(422, None, echo.encode())
    url = "https://hooks.example/in/T0K3N-of-the-path?key=w0rd%2Fof%2Fit"
    reply = await send(made(receiver, url=url), SALE)
    shown = reply.answer + repr(reply.verdicts)
    assert "T0K3N" not in shown
    assert "w0rd" not in shown


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "s3cret",
        OLD.removeprefix("whsec_"),
        "whsec_" + base64.b64encode(b"n" * 23).decode(),
        "whsec_" + base64.b64encode(b"n" * 65).decode(),
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2Lå" + "LaSw",
        "whsec_MfKQ9r8GKYqrTwjUPD8I-_ZIo2LaLaSw",
        "whsec_MfKQ9r8GKYqr TwjUPD8ILPZIo2LaLaSw",
        "whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    ],
)
def test_a_secret_of_another_form_is_refused_and_not_repeated(secret: str) -> None:
    with pytest.raises(ValidationError) as caught:
        chosen(secrets=[OLD, secret])
    (error,) = caught.value.errors()
    assert error["loc"] == ("secrets", 1)
    assert "must be whsec_ and then 24 to 64 bytes in base64" in error["msg"]
    assert secret in {"", "whsec_"} or secret not in error["msg"]


@pytest.mark.parametrize("size", [24, 25, 64])
@pytest.mark.parametrize("padding", ["", "=="])
async def test_secrets_are_taken_with_and_without_padding(
    receiver: Receiver, size: int, padding: str
) -> None:
    text = "whsec_" + base64.b64encode(b"n" * size).decode()
    secret = text if padding else text.rstrip("=")
    await send(made(receiver, SystemClock(), secrets=[f" {secret}\n"]), SALE)
    _, _, headers, body = receiver.sent[0]
    Webhook(b"n" * size).verify(body, headers)


@pytest.mark.parametrize("secrets", [[], [OLD] * 6])
def test_there_is_a_secret_and_not_a_heap(secrets: list[str]) -> None:
    with pytest.raises(ValidationError, match="secrets"):
        chosen(secrets=secrets)


INSIDE = [
    *("https://127.0.0.1/", "https://10.1.2.3:8443/in", "https://[::1]/", "https://[fe80::1]/"),
    *("https://[::ffff:192.168.0.1]/", "https://169.254.169.254/latest", "https://localhost/"),
    *("https://hook/", "https://a.localhost/", "https://hook.shop.svc/", "https://nas.local./"),
]


@pytest.mark.parametrize("url", INSIDE)
def test_an_address_seen_to_be_private_must_be_allowed(url: str) -> None:
    with pytest.raises(ValidationError, match="allow_private_addresses"):
        chosen(url=url)
    for each in (url, url.replace("https:", "http:")):
        assert chosen(url=each, allow_private_addresses=True).url == each


@pytest.mark.parametrize("url", ["http://hooks.example/", "http://1.1.1.1/", "http://[2606::1]/"])
@pytest.mark.parametrize("allowed", [True, False])
def test_the_internet_is_reached_by_https_only(url: str, *, allowed: bool) -> None:
    with pytest.raises(ValidationError, match="must be https"):
        chosen(url=url, allow_private_addresses=allowed)
    secure = url.replace("http:", "https:")
    assert chosen(url=secure, allow_private_addresses=allowed).url == secure


@pytest.mark.parametrize(
    "url", ["https://h.example:99999/", "https://h.example/#a", "https://h/ b", "https://hå.se/"]
)
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="url"):
        chosen(url=url)
