"""Socket activation: listening sockets that systemd opened and keeps (sd_listen_fds(3)).

While the daemon restarts, connections wait in the socket's queue instead of being refused.
"""

import os
import socket
from collections.abc import MutableMapping
from typing import Final

_FIRST: Final = 3


def inherited_socket(environment: MutableMapping[str, str] = os.environ) -> socket.socket | None:
    """The stream socket that was handed over for the public listener, or None. It is handed over once."""
    count, pid = environment.pop("LISTEN_FDS", ""), environment.pop("LISTEN_PID", "")
    environment.pop("LISTEN_FDNAMES", None)
    if not count.isdecimal() or pid != str(os.getpid()):
        return None
    found = None
    for descriptor in range(_FIRST, _FIRST + int(count)):
        os.set_inheritable(descriptor, False)
        if found is None:
            found = socket.socket(fileno=descriptor)
            found.setblocking(False)
    return found
