"""Which addresses any host on the internet may have."""

import pytest

from gateway.model.public_address import is_public

PUBLIC = ["1.1.1.1", "93.184.216.34", "2606:4700:4700::1111", "64:ff9b::101:101", "2002:101:101::1"]
PRIVATE = {
    "unspecified": ["0.0.0.0", "0.1.2.3", "::"],
    "loopback": ["127.0.0.1", "127.255.1.2", "::1"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.254", "192.168.1.1", "fc00::1", "fd12::1"],
    "link-local": ["169.254.169.254", "fe80::1", "fe80::1%eth0", "fec0::1"],
    "carrier-grade NAT": ["100.64.0.1", "100.127.255.254"],
    "multicast": ["224.0.0.1", "239.1.2.3", "ff02::1", "ff0e::1"],
    "broadcast and reserved": ["255.255.255.255", "240.0.0.1", "100::1", "5f00::1", "4000::1"],
    "documentation and tests": ["192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1"],
    "IPv4 in IPv6": [
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1"),
        *(
            "64:ff9b::a9fe:a9fe",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::1",
            "2002:a00:1::",
        ),
    ],
    "more of IPv6": ["2001:db8::1", "2001::1", "2001:10::1"],
}


@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_on_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "address", [address for addresses in PRIVATE.values() for address in addresses]
)
def test_any_other_is_not(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("name", ["localhost", "127.1", "2130706433", "0x7f.1", "", "1.1.1.1 "])
def test_what_is_no_address_is_neither(name: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be"):
        is_public(name)
