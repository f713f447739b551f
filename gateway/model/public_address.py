"""Which IP addresses are on the public internet. Pure."""

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

_GLOBAL_UNICAST = IPv6Network("2000::/3")
"""All that is routed on the internet (IANA, IPv6 Global Unicast); what is outside never is."""
_NAT64 = IPv6Network("64:ff9b::/96")
"""Where a network without IPv4 shows the IPv4 internet (RFC 6052): the last 32 bits decide."""


def is_public(address: str) -> bool:
    """Whether an IP address, a `%zone` allowed, is one that any host on the internet may have.

    False for private, loopback, link-local, multicast and every other special range, also where an
    IPv6 address carries one of IPv4. Raises ValueError when it is no IP address.
    """
    ip = ip_address(address)
    if isinstance(ip, IPv4Address):
        return _is_public_v4(ip)
    carried = _carried(ip)
    if carried is not None:
        return _is_public_v4(carried)
    return ip in _GLOBAL_UNICAST and ip.is_global and not ip.is_multicast


def _is_public_v4(ip: IPv4Address) -> bool:
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)


def _carried(ip: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address where packets to this one end up."""
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFF_FFFF)
    return ip.ipv4_mapped or ip.sixtofour
