"""Addresses to listen on: `127.0.0.1:8080`, `[::1]:8080`; port 0 takes a free one."""

import ipaddress
from typing import Annotated, NamedTuple

from pydantic import AfterValidator

_HIGHEST_PORT = 65_535


class Address(NamedTuple):
    """A host and a port to listen on."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address_of(listen: str) -> Address:
    """Read an address. Raises ValueError with what would be right."""
    host, colon, port = listen.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal()) or int(port) > _HIGHEST_PORT:
        raise ValueError("write host:port, for example 127.0.0.1:8080")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("write an IPv6 address in brackets, for example [::1]:8080")
    if not host:
        raise ValueError("write the host too: 0.0.0.0 for all of IPv4, [::] for IPv6 as well")
    return Address(host, int(port))


def _listen(text: str) -> str:
    return str(address_of(text))


Listen = Annotated[str, AfterValidator(_listen)]
