"""Addresses to listen on."""

import pytest

from gateway.http.listen import Address, address_of


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("0.0.0.0:0", "0.0.0.0", 0),
        ("[::1]:65535", "::1", 65_535),
        ("gateway.internal:80", "gateway.internal", 80),
    ],
)
def test_host_and_port_are_told_apart_and_written_the_same_again(
    text: str, host: str, port: int
) -> None:
    assert address_of(text) == Address(host, port)
    assert str(address_of(text)) == text


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("8080", "host:port"),
        ("127.0.0.1", "host:port"),
        ("127.0.0.1:", "host:port"),
        ("127.0.0.1:http", "host:port"),
        ("127.0.0.1:65536", "host:port"),
        ("127.0.0.1:٣", "host:port"),
        (":8080", "0.0.0.0"),
        ("::1:8080", "brackets"),
    ],
)
def test_a_wrong_one_says_what_would_be_right(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        address_of(text)


@pytest.mark.parametrize(
    ("text", "is_loopback"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("localhost.example:1", False),
    ],
)
def test_loopback_is_recognised(text: str, is_loopback: bool) -> None:  # noqa: FBT001 - a case
    assert address_of(text).is_loopback is is_loopback
