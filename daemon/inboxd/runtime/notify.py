"""Telling systemd how we are: sd_notify(3), in the few lines that it takes."""

import os
import socket
from collections.abc import Mapping
from typing import Final

_MICROSECOND: Final = 1e-6


class Notifier:
    """Sends state to the service manager; does nothing where there is none."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        watchdog = environment.get("WATCHDOG_USEC", "")
        ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_s: Final = int(watchdog) * _MICROSECOND if watchdog.isdecimal() and ours else None
        """How often the manager wants a sign of life, in seconds; None when it does not."""

    def send(self, **state: str) -> None:
        """Send variables such as READY="1". A manager that does not listen is no trouble of ours."""
        if not self._address:
            return
        message = "\n".join(f"{name}={value}" for name, value in state.items())
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.setblocking(False)
            try:
                sender.sendto(message.encode(), self._address)
            except OSError:
                return
