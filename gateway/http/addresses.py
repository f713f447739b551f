"""Whose request it is, as far as an address can say; and how many it may send."""

from collections import OrderedDict
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from gateway.model.bucket import Bucket

MOST_ADDRESSES = 10_000
"""The address that was quiet longest is forgotten first."""
_HOME_BITS = 64
"""One customer's IPv6 network, at the least."""


def client_address(
    remote: str | None, forwarded: str, trusted: Sequence[IPv4Network | IPv6Network]
) -> str:
    """Return the address nearest to us that is no trusted proxy; of IPv6 its /64.

    `forwarded` is X-Forwarded-For, to which each proxy appends who it was asked by; what stands
    before an untrusted address is the client's own claim. The result is a key, never stored.
    """
    address = remote or ""
    for hop in reversed(forwarded.split(",")):
        if not _is_in(address, trusted) or not hop.strip():
            break
        address = hop.strip()
    return _key(address)


def _is_in(address: str, networks: Sequence[IPv4Network | IPv6Network]) -> bool:
    found = _parsed(address)
    return found is not None and any(found in network for network in networks)


def _parsed(address: str) -> IPv4Address | IPv6Address | None:
    """Read an address; one of IPv4 that came in on a port of IPv6 is what it is outside."""
    try:
        found = ip_address(address)
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, IPv6Address) else None
    return found if mapped is None else mapped


def _key(address: str) -> str:
    found = _parsed(address)
    if found is None:
        return "unknown"
    if isinstance(found, IPv6Address):
        return str(IPv6Network((found, _HOME_BITS), strict=False))
    return str(found)


class RateLimit:
    """So many requests a second for each address. Times are of any rising clock, in seconds."""

    def __init__(self, rate_per_second: float, most: int = MOST_ADDRESSES) -> None:
        self._rate = rate_per_second
        self._most = most
        self._buckets: OrderedDict[str, Bucket] = OrderedDict()

    def allows(self, address: str, now: float) -> bool:
        """Count a request, if there is room for it."""
        bucket = self._buckets.get(address)
        if bucket is None:
            bucket = self._buckets[address] = Bucket(self._rate, now)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(address)
        if bucket.wait_seconds(now) > 0:
            return False
        bucket.take()
        return True
