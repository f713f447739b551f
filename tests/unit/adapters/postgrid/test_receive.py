"""Webhooks in the two documented forms, and everything that is not one."""

import hmac
from base64 import urlsafe_b64encode
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.adapters.postgrid.receive import (
    SignatureError,
    StaleError,
    UnreadableError,
    open_message,
)
from tests.mailhouse import json_hook, token

NOW_MS = 1_795_000_000_000
AGE_MS = 43_200_000
SECRET = "webhook_secret_demo_0123456789"
OTHER = "webhook_secret_other_9876543210"
SECRETS = [OTHER.encode(), SECRET.encode()]
DATA = {"id": "postcard_demo1", "live": False, "status": "printing"}


def opened(body: bytes, signature: str | None, now_ms: int = NOW_MS) -> Any:
    return open_message(body, signature, SECRETS, now_ms, AGE_MS)


def test_the_json_example_of_the_reference_verifies() -> None:
    body = b'{"type":"tracker.visited","data":{"id":"tracker_visit_demo1"}}'
    signature = (
        "t=1795000000000,v1=4e5b2928679cc955fccaca760a593881e216d3f6ad9c897f89cf06645d5c1caa"
    )
    message = opened(body, signature)
    assert message.type == "tracker.visited"
    assert message.data == {"id": "tracker_visit_demo1"}


def test_a_token_verifies_with_the_whole_secret_and_says_its_kind() -> None:
    message = opened(token("postcard.updated", DATA, SECRET, NOW_MS), None)
    assert (message.type, message.data) == ("postcard.updated", DATA)
    assert message.order_kind == "postcard"


@pytest.mark.parametrize("secret", [SECRET, OTHER])
def test_any_of_the_secrets_will_do_so_that_one_can_be_replaced(secret: str) -> None:
    assert opened(token("letter.created", DATA, secret, NOW_MS), None).data == DATA
    body, signature = json_hook("letter.created", DATA, secret, NOW_MS)
    assert opened(body, signature).data == DATA


def test_a_secret_without_its_prefix_does_not_verify() -> None:
    part = SECRET.removeprefix("webhook_secret_")
    with pytest.raises(SignatureError):
        opened(token("letter.created", DATA, part, NOW_MS), None)


@given(bit=st.integers(0))
def test_one_changed_bit_of_a_token_fails(bit: int) -> None:
    body = bytearray(token("postcard.updated", DATA, SECRET, NOW_MS))
    body[bit // 8 % len(body)] ^= 1 << bit % 8
    with pytest.raises(SignatureError):
        opened(bytes(body), None)


@given(bit=st.integers(0))
def test_one_changed_bit_of_a_signed_body_fails(bit: int) -> None:
    whole, signature = json_hook("postcard.updated", DATA, SECRET, NOW_MS)
    body = bytearray(whole)
    body[bit // 8 % len(body)] ^= 1 << bit % 8
    with pytest.raises(SignatureError):
        opened(bytes(body), signature)


@given(bit=st.integers(0))
def test_one_changed_bit_of_the_signature_header_fails(bit: int) -> None:
    body, signature = json_hook("postcard.updated", DATA, SECRET, NOW_MS)
    header = bytearray(signature.encode())
    header[bit // 8 % len(header)] ^= 1 << bit % 8
    with pytest.raises(SignatureError):
        opened(body, header.decode("utf-8", "surrogateescape"))


@given(body=st.binary(max_size=300), header=st.none() | st.text(max_size=200))
def test_nothing_unsigned_gets_in_and_nothing_breaks(body: bytes, header: str | None) -> None:
    with pytest.raises(SignatureError):
        opened(body, header)


@pytest.mark.parametrize("algorithm", ["none", "HS512", "RS256", None])
def test_another_algorithm_is_refused_though_the_bytes_are_signed(algorithm: str | None) -> None:
    with pytest.raises(SignatureError):
        opened(token("letter.created", DATA, SECRET, NOW_MS, algorithm=algorithm), None)


def test_a_source_without_secrets_takes_no_webhook() -> None:
    body, signature = json_hook("letter.created", DATA, "", NOW_MS)
    with pytest.raises(SignatureError):
        open_message(body, signature, [], NOW_MS, AGE_MS)


def test_the_last_of_postgrids_retries_is_still_believed_and_a_day_later_it_is_not() -> None:
    body = token("letter.created", DATA, SECRET, NOW_MS)
    signed, signature = json_hook("letter.created", DATA, SECRET, NOW_MS)
    seven_hours, a_day = NOW_MS + 7 * 3_600_000, NOW_MS + 86_400_000
    assert opened(body, None, seven_hours).data == DATA
    assert opened(signed, signature, seven_hours).data == DATA
    for each, header in ((body, None), (signed, signature)):
        with pytest.raises(StaleError):
            opened(each, header, a_day)


def test_a_time_in_seconds_is_taken_as_such_and_signed_as_it_was_sent() -> None:
    body, signature = json_hook("letter.created", DATA, SECRET, NOW_MS // 1000)
    assert opened(body, signature).data == DATA


@pytest.mark.parametrize("issued", [None, True, "1795000000"])
def test_a_token_that_does_not_say_when_it_was_made_is_not_believed(issued: object) -> None:
    claims = orjson.dumps({"type": "letter.created", "data": DATA, "iat": issued})
    head = urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")
    signed = head + b"." + urlsafe_b64encode(claims).rstrip(b"=")
    mac = urlsafe_b64encode(hmac.digest(SECRET.encode(), signed, "sha256")).rstrip(b"=")
    with pytest.raises(StaleError):
        opened(signed + b"." + mac, None)


@pytest.mark.parametrize("data", [None, "x", [1]])
def test_what_is_signed_but_no_message_is_told_apart(data: object) -> None:
    with pytest.raises(UnreadableError):
        opened(token("letter.created", data, SECRET, NOW_MS), None)
