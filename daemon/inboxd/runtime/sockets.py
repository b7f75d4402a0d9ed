"""Sockets that are opened only to addresses that are allowed."""

import ipaddress
import socket
from collections.abc import Callable
from typing import Any

AddrInfo = tuple[int | socket.AddressFamily, int | socket.SocketKind, int, str, tuple[Any, ...]]
IsAllowed = Callable[[ipaddress.IPv4Address | ipaddress.IPv6Address], bool]


class ForbiddenAddressError(OSError):
    """We do not connect to the IP address of the host."""


class CheckedSockets:
    """A socket factory for aiohttp, which calls it with the exact address that it is about to connect to.

    So the check is made after DNS, and for every connection.
    """

    def __init__(self, is_allowed: IsAllowed) -> None:
        self._is_allowed = is_allowed

    def __call__(self, address: AddrInfo) -> socket.socket:
        """The socket for one connection. Raises ForbiddenAddressError."""
        family, kind, protocol, _, target = address
        if not self._is_allowed(ipaddress.ip_address(str(target[0]).partition("%")[0])):
            raise ForbiddenAddressError(str(target[0]))
        return socket.socket(family, kind, protocol)


def is_forbidden(error: BaseException | None) -> bool:
    """Whether we refused an address. aiohttp may put our error anywhere in the chain of causes."""
    while error is not None:
        if isinstance(error, ForbiddenAddressError):
            return True
        error = error.__cause__ or error.__context__
    return False
