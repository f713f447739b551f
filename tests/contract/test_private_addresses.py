"""No private address is connected to where that is not allowed, whatever its name or spelling."""

import socket
from pathlib import Path

import pytest
from aiohttp import TCPConnector
from aiohttp.abc import ResolveResult
from aiohttp.resolver import ThreadedResolver

from gateway.adapters.http_client import AiohttpClient, HttpClients, _public_socket
from gateway.model.attempt import Again, Answered, Item, Unanswered
from gateway.model.outcome import Reason
from tests.contract.cases import CASES
from tests.contract.scripted import Scripted, status
from tests.sample import NOW_MS, envelope


async def post(http: AiohttpClient, url: str) -> Answered | Unanswered:
    return await http.exchange("POST", url, {}, b"{}", 5.0)


async def refused(http: AiohttpClient, url: str) -> str:
    answer = await post(http, url)
    assert isinstance(answer, Unanswered)
    assert answer.reason is Reason.UNREACHABLE
    return answer.detail


@pytest.fixture
async def public_only(clients: HttpClients) -> AiohttpClient:
    return clients.public_only


PRIVATE = "no connection to {}: a private address, and allow_private_addresses is not set"


@pytest.mark.parametrize("host", ["127.0.0.1", "[::ffff:127.0.0.1]", "localhost", "0.0.0.0"])
async def test_a_private_address_is_not_connected_to(
    public_only: AiohttpClient, scripted: Scripted, host: str
) -> None:
    url = scripted.url.replace("127.0.0.1", host)
    assert await refused(public_only, url) == PRIVATE.format(host.strip("[]"))
    assert not scripted.got


@pytest.mark.parametrize(
    "host", ["127.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.0.0.1.", "[::]", "%31%32%37.1"]
)
async def test_no_other_spelling_of_one_gets_past(
    public_only: AiohttpClient, scripted: Scripted, host: str
) -> None:
    await refused(public_only, scripted.url.replace("127.0.0.1", host))
    assert not scripted.got


class Rebinding(ThreadedResolver):
    """Name service for one name: another address each time it is asked."""

    def __init__(self, *addresses: str) -> None:
        super().__init__()
        self.addresses = list(addresses)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await super().resolve(self.addresses.pop(0), port, family)
        return [{**each, "hostname": host} for each in found]


def answered_by(http: AiohttpClient, resolver: Rebinding) -> None:
    """Let names be looked up by `resolver`, each time anew."""
    assert http._session is not None
    connector = http._session.connector
    assert isinstance(connector, TCPConnector)
    connector._resolver = resolver
    connector._use_dns_cache = False


async def test_a_name_that_stands_for_a_private_address_a_moment_later_gets_nobody_past(
    public_only: AiohttpClient, scripted: Scripted
) -> None:
    """DNS re-binding: whoever asked first saw a public address; what counts is the connection's."""
    resolver = Rebinding("192.0.2.1", "127.0.0.1")
    answered_by(public_only, resolver)
    checked = await resolver.resolve("hooks.example")
    assert checked[0]["host"] == "192.0.2.1"
    url = scripted.url.replace("127.0.0.1", "hooks.example")
    assert await refused(public_only, url) == PRIVATE.format("hooks.example")
    assert not scripted.got


async def test_a_name_that_was_never_private_is_connected_to_and_known_by_its_name(
    clients: HttpClients, scripted: Scripted
) -> None:
    """The same, where private addresses are allowed: so it is the guard that stopped it."""
    answered_by(clients.any_address, Rebinding("127.0.0.1"))
    scripted.expect(status(200))
    url = scripted.url.replace("127.0.0.1", "hooks.example")
    assert isinstance(await post(clients.any_address, url), Answered)
    assert scripted.got[0].headers["host"].startswith("hooks.example:")


@pytest.mark.parametrize(
    ("family", "where"),
    [(socket.AF_INET, ("1.1.1.1", 443)), (socket.AF_INET6, ("2606:4700::1111", 443, 0, 0))],
)
def test_a_public_address_gets_its_socket(
    family: socket.AddressFamily, where: tuple[str, int] | tuple[str, int, int, int]
) -> None:
    """Asked of the guard itself: a test connects to nothing outside."""
    info = (family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", where)
    with _public_socket(info) as made:
        assert (made.family, made.type) == (family, socket.SOCK_STREAM)


async def test_a_webhook_reaches_no_private_address_unless_that_is_allowed(
    clients: HttpClients, scripted: Scripted, tmp_path: Path
) -> None:
    url = scripted.url.replace("http://127.0.0.1", "https://hooks.example")
    words = {}
    for allowed in (False, True):
        answered_by(clients.public_only, Rebinding("127.0.0.1"))
        answered_by(clients.any_address, Rebinding("127.0.0.1"))
        hook = CASES["webhook"].make(url, clients, tmp_path, allow_private_addresses=allowed)
        item = hook.prepare(envelope("page"), NOW_MS)
        assert isinstance(item, Item)
        (verdict,) = (await hook.send(hook.request([item]))).verdicts
        assert isinstance(verdict, Again)
        words[allowed] = verdict.detail
    assert words == {
        False: PRIVATE.format("hooks.example"),
        True: "no TLS connection to hooks.example",
    }
