"""What a history import costs: calls, memory of the daemon, and the price of a resume after `kill -9`.

Run it as `python -m benchmarks.history`. The simulated Instagram has N conversations of 3 messages and answers at once.
Meta's pace of two calls a second is left out on both sides: at the default budget the time is the number of calls.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, Final

from benchmarks.ingest import SECRET, free_port, get, wait_until

ACCOUNT: Final = "17841400000000001"
TOKEN: Final = "simulator-token"
INBOXD: Final = str(Path(sys.executable).with_name("inboxd"))
MESSAGES: Final = 3
PER_HOUR: Final = 120
"""Calls an hour that an import may make at the default budget of 200."""
UNPACED: Final = """
import sys
from inboxd.meta import account_graph
account_graph.CONVERSATION_CALLS = 1_000_000
sys.argv = ["inboxd", "run"]
from inboxd.cli import main
main()
"""
FILL: Final = """
import asyncio, sys
from inboxd.simulator.graph_server import Behaviour, GraphServer
from inboxd.simulator.mailbox import NewMessage
from inboxd.simulator.people import igsid
from inboxd.simulator.serving import serving
account, token, count, messages, port = *sys.argv[1:3], *map(int, sys.argv[3:])
async def main():
    server = GraphServer({token: account})
    server.behaviour = Behaviour(latency_ms=0, conversation_calls_per_s=0)
    for who in range(count):
        for number in range(messages):
            at = 1_770_000_000_000 + who * 60_000 + number * 1000
            text = f"{who} {number}"
            new = NewMessage(account_id=account, participant_id=igsid(who), text=text, created_ms=at)
            server.mailbox.add(new)
    async with serving(server.application(), port=port):
        await asyncio.Event().wait()
asyncio.run(main())
"""


def memory_mb(pid: int, field: str) -> float:
    """A number of /proc/PID/status, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


class Import:
    """One import by a daemon in `folder`, which may be killed on the way."""

    def __init__(self, folder: str, url: str) -> None:
        self.url = url
        self.base = f"http://127.0.0.1:{(admin := free_port())}"
        self.environment = os.environ | {
            "STATE_DIRECTORY": folder,
            "INBOXD_APP_SECRETS": SECRET,
            "INBOXD_VERIFY_TOKEN": SECRET,
            "INBOXD_ADMIN_TOKEN": SECRET,
            "INBOXD_PUBLIC__PORT": str(free_port()),
            "INBOXD_ADMIN__PORT": str(admin),
            "INBOXD_LOGS__LEVEL": "error",
            "INBOXD_ACCOUNTS": json.dumps([{"id": ACCOUNT}]),
            f"INBOXD_ACCOUNT_TOKEN_{ACCOUNT}": TOKEN,
            "INBOXD_INSTAGRAM__GRAPH_URL": url,
            "INBOXD_BUDGET__CALLS_PER_HOUR": "1000000",
            "INBOXD_BUDGET__CALLS_PER_SECOND": "1000",
        }
        self.process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        process = subprocess.Popen([sys.executable, "-c", UNPACED], env=self.environment)
        wait_until(f"{self.base}/readyz", process)
        return process

    def calls(self) -> int:
        """Calls of the Conversations API so far."""
        found = json.loads(urllib.request.urlopen(f"{self.url}/_simulator/calls").read())
        return sum(call.endswith(("/conversations", "/messages")) for call in found)

    def run(self, kill_at: int) -> dict[str, Any]:
        """Import everything, with a `kill -9` after so many conversations. What it cost."""
        body = json.dumps({"accountId": ACCOUNT}).encode()
        headers = {"Authorization": f"Bearer {SECRET}"}
        request = urllib.request.Request(f"{self.base}/api/workers/import-history", body, headers)
        run, peak, idle, killed_at = json.load(urllib.request.urlopen(request)), 0.0, 0.0, 0
        idle = memory_mb(self.process.pid, "VmRSS")
        while run["status"] != "completed":
            assert run["status"] in {"queued", "running", "waiting-for-budget"}, run
            peak = max(peak, memory_mb(self.process.pid, "VmHWM"))
            if not killed_at and run["totalProcessed"] >= kill_at:
                self.process.send_signal(signal.SIGKILL)
                self.process.wait()
                killed_at = self.calls()
                self.process = self._start()
            time.sleep(0.2)
            run = json.loads(get(self.base + run["links"]["self"]))
        return {"run": run, "peak_mb": peak, "idle_mb": idle, "calls": self.calls()}


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    count = parser.parse_args().count
    port = free_port()
    arguments = [ACCOUNT, TOKEN, str(count), str(MESSAGES), str(port)]
    simulator = subprocess.Popen([sys.executable, "-c", FILL, *arguments])
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(f"{url}/_simulator/behaviour", simulator)
        with tempfile.TemporaryDirectory() as folder:
            importing = Import(folder, url)
            try:
                found = importing.run(count // 2)
            finally:
                importing.process.kill()
                importing.process.wait()
    finally:
        simulator.kill()
        simulator.wait()
    run, calls = found["run"], found["calls"]
    assert (run["successCount"], run["messagesAdded"]) == (count, count * MESSAGES), run
    print(f"{count} conversations, {count * MESSAGES} messages, each once, with a kill -9 in the middle: "
          f"{run['duration'] / 1000:.0f} s here; {calls} calls, {calls / PER_HOUR:.0f} h at the default budget; "
          f"the kill cost {max(0, calls - count - -(-count // 100) - 1)} calls more than an import without one; "
          f"memory {found['idle_mb']:.0f} MB before, at most {found['peak_mb']:.0f} MB")  # fmt: skip


if __name__ == "__main__":
    main()
