"""Decides which IP addresses may be connected to, when the address to go to came from outside."""

import ipaddress
from collections.abc import Collection
from typing import Final

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
NEVER: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "169.254.0.0/16",  # link-local, with the metadata services of most clouds
        "fe80::/10",
        "fd00:ec2::254/128",  # metadata of AWS
        "fd20:ce::254/128",  # of Google Cloud
        "100.100.100.200/32",  # of Alibaba Cloud
        "192.0.0.192/32",  # of Oracle Cloud
        "168.63.129.16/32",  # of Azure
        "0.0.0.0/8",  # this machine, by another name
        "::/128",
        "224.0.0.0/3",  # multicast and reserved
        "ff00::/8",
    )
)
"""Where nobody's receiver is, and where requests of others must never be sent."""


def is_allowed(address: IpAddress, networks: Collection[IpNetwork]) -> bool:
    """Whether `address` is public or in one of `networks`. An address that wraps another is judged by that."""
    if _is_in(address, networks):
        return True
    inner = _wrapped(address)
    if inner is not None:
        return is_allowed(inner, networks)
    return address.is_global and not address.is_multicast


def is_receiver(address: IpAddress, networks: Collection[IpNetwork]) -> bool:
    """Whether a receiver of the user may be at `address`: also on this machine and in private networks.

    `networks` narrows it to these, when there are any. An address that wraps another is judged by that too.
    """
    inner = _wrapped(address)
    if inner is not None and not (networks and _is_in(address, networks)):
        return is_receiver(inner, networks)
    if _is_in(address, NEVER) or (inner is not None and _is_in(inner, NEVER)):
        return False
    return not networks or _is_in(address, networks)


def _is_in(address: IpAddress, networks: Collection[IpNetwork]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _wrapped(address: IpAddress) -> IpAddress | None:
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
