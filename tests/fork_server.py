"""Starts `inboxd` as real processes that have imported it already.

Most of what a command costs is the import of its modules, and the tests start it hundreds of times. So one process for
each worker of pytest imports everything once, and is forked for each start: the fork gets arguments, an environment, a
folder and streams of its own, and runs `main` at its top level as the installed script does. It is a process like any
other: it has its own id, signals kill it, and it ends with an exit code.

What this cannot show: whether a command imports what it needs, and how much memory it takes. The tests of these, and
those that limit what a process may do before it begins, execute the script.
"""

import atexit
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import cache
from pathlib import Path
from typing import IO, Final

ROOT: Final = Path(__file__).parents[1]
INBOXD: Final = str(Path(sys.executable).with_name("inboxd"))
"""The installed script."""
_MOST: Final = 128 * 1024
"""The size of a request, at most."""


class Forked:
    """A process that was forked, with the interface of `subprocess.Popen` as far as the tests use it."""

    def __init__(self, arguments: Sequence[str], status: socket.socket, stdout: IO[str] | None) -> None:
        self.args = arguments
        told = status.recv(4)
        assert told, "the fork server has ended"  # 0 as an id would be this group of processes
        self.pid = int.from_bytes(told, "big")
        self.stdout = stdout
        self.returncode: int | None = None
        self._status = status

    def poll(self) -> int | None:
        """Its exit code, or as a negative number the signal that killed it; None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended. Raises TimeoutExpired after `timeout` (s)."""
        if self.returncode is None:
            self._status.settimeout(timeout)
            try:
                told = self._status.recv(4)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired(self.args, timeout or 0) from None
            assert told, "the fork server has ended"
            self.returncode = int.from_bytes(told, "big", signed=True)
            self._status.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill it."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)


class ForkServer:
    """The process that is forked. It ends when this one ends."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.fork_server", str(theirs.fileno())],
                cwd=ROOT,
                env={"PATH": os.environ["PATH"]},  # a module may look at the environment when it is imported
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def start(
        self,
        arguments: Sequence[str],
        *,
        env: Mapping[str, str],
        cwd: Path,
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
        stderr: IO[bytes] | None = None,
        module: str = "inboxd.cli",
    ) -> Forked:
        """Start `inboxd` with these arguments, or what another `module` has as its `main`.

        Without `stdin` it reads nothing. Without `stdout`, what it prints can be read from `Forked.stdout`. Without
        `stderr`, its errors are in the output of the tests.
        """
        request = json.dumps([[INBOXD, *arguments], dict(env), str(cwd), module]).encode()
        assert len(request) <= _MOST
        ours, theirs = socket.socketpair()
        printed = None
        with theirs, ExitStack() as opened:
            if stdout is None:
                readable, writable = os.pipe()
                printed, stdout = os.fdopen(readable), opened.enter_context(os.fdopen(writable, "wb"))
            given = stdin or opened.enter_context(Path(os.devnull).open("rb"))
            streams = [given.fileno(), stdout.fileno(), stderr.fileno() if stderr else 2]
            socket.send_fds(self._socket, [request], [*streams, theirs.fileno()])
        return Forked([INBOXD, *arguments], ours, printed)

    def run(
        self, arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, stdin: bytes = b"", timeout: float = 90
    ) -> "subprocess.CompletedProcess[str]":
        """Run `inboxd` to its end, and capture what it prints. Raises TimeoutExpired after `timeout` (s)."""
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            given.write(stdin)
            given.seek(0)
            process = self.start(arguments, env=env, cwd=cwd, stdin=given, stdout=out, stderr=err)
            try:
                code = process.wait(timeout)
            finally:
                process.kill()
                process.wait()
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(process.args, code, out.read().decode(), err.read().decode())

    def close(self) -> None:
        """End it. What it has started goes on."""
        self._socket.close()
        self._process.wait()


@cache
def fork_server() -> ForkServer:
    """The fork server of this process of the tests."""
    server = ForkServer()
    atexit.register(server.close)
    return server


def _import_everything() -> None:
    """Import what any command may. No thread and no open file may come of it."""
    from inboxd.cli import COMMANDS  # noqa: PLC0415 - who asks a fork server does not need it

    modules = {place.partition(":")[0] for one in COMMANDS.values() for place in (one.command, one.setup) if place}
    for module in sorted(modules | {"inboxd.app", "uvloop"}):
        importlib.import_module(module)
    assert threading.active_count() == 1
    gc.collect()
    gc.freeze()  # so that a fork shares with the others what is never freed


class _Children:
    """Those that were forked and run, and who asked for each."""

    def __init__(self) -> None:
        self._asked: dict[int, socket.socket] = {}

    def add(self, pid: int, asked: socket.socket) -> None:
        self._asked[pid] = asked
        self._tell(asked, pid)

    def reap(self) -> None:
        """Tell who asked for them how those ended that have."""
        while self._asked:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                return
            with self._asked.pop(pid) as asked:
                self._tell(asked, os.waitstatus_to_exitcode(status))

    def forget(self) -> None:
        for asked in self._asked.values():
            asked.close()

    @staticmethod
    def _tell(asked: socket.socket, number: int) -> None:
        with suppress(OSError):  # it is gone
            asked.sendall(number.to_bytes(4, "big", signed=True))


def _serve(requests: socket.socket) -> str:
    """Fork for each request. Returns in the forks only: the module that was asked for."""
    children = _Children()
    ended, wakes = socket.socketpair()
    wakes.setblocking(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wakes.fileno())
    selector = selectors.DefaultSelector()
    selector.register(requests, selectors.EVENT_READ)
    selector.register(ended, selectors.EVENT_READ)
    while True:
        ready = {key.fileobj for key, _ in selector.select()}
        if ended in ready:
            ended.recv(64)
            children.reap()
        if requests not in ready:
            continue
        request, descriptors, _, _ = socket.recv_fds(requests, _MOST, 4)
        if not request:
            sys.exit()
        asked = socket.socket(fileno=descriptors.pop())
        pid = os.fork()
        if pid:
            children.add(pid, asked)
            for descriptor in descriptors:
                os.close(descriptor)
            continue
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        selector.close()
        for one in (requests, ended, wakes, asked):
            one.close()
        children.forget()
        return _become(request, descriptors)


def _become(request: bytes, descriptors: Sequence[int]) -> str:
    sys.argv, environment, folder, module = json.loads(request)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    return str(module)


if __name__ == "__main__":
    _import_everything()
    asked_for = _serve(socket.socket(fileno=int(sys.argv[1])))
    sys.exit(importlib.import_module(asked_for).main())
