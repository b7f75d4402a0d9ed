"""What a backfill costs beside its calls: a run of N profiles, and the same calls made by nobody in particular.

Run it as `python -m benchmarks.backfill`. The simulated Graph API answers after 20 ms on average, with no limit.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Final

import aiohttp
import uvloop
from inboxd.simulator.people import igsid

from benchmarks.ingest import SECRET, free_port, get, wait_until

ACCOUNT: Final = "17841400000000001"
TOKEN: Final = "simulator-token"
LATENCY_S: Final = 0.02
INBOXD: Final = str(Path(sys.executable).with_name("inboxd"))


async def bare(url: str, count: int) -> float:
    """Seconds that the calls alone take, one after the other."""
    began = time.perf_counter()
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKEN}"}) as session:
        for number in range(count):
            async with session.get(f"{url}/v25.0/{igsid(number)}?fields=username,name") as answer:
                await answer.read()
    return time.perf_counter() - began


def backfill(folder: str, url: str, count: int) -> float:
    """Seconds that a run takes, from the request until it is completed."""
    rows = (json.dumps({"clientAccountId": ACCOUNT, "participantPlatformId": igsid(number)}) for number in range(count))
    Path(folder, "known.jsonl").write_text("\n".join(rows))
    admin = free_port()
    environment = os.environ | {
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
        "INBOXD_BUDGET__CALLS_PER_SECOND": "1000000",
    }
    subprocess.run([INBOXD, "import-conversations", f"{folder}/known.jsonl"], env=environment, check=True)
    process = subprocess.Popen([INBOXD, "run"], env=environment)
    try:
        base = f"http://127.0.0.1:{admin}"
        wait_until(f"{base}/readyz", process)
        time.sleep(1)
        request = urllib.request.Request(
            f"{base}/api/workers/backfill-profiles",
            json.dumps({"accountId": ACCOUNT, "batchSize": 100}).encode(),
            headers={"Authorization": f"Bearer {SECRET}"},
        )
        run = json.load(urllib.request.urlopen(request))
        while run["status"] != "completed":
            time.sleep(0.1)
            run = json.loads(get(base + run["links"]["self"]))
        assert run["successCount"] == count, run
        return float(run["duration"]) / 1000
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1000)
    options = parser.parse_args()
    port = free_port()
    simulator = subprocess.Popen([INBOXD, "simulator", "--port", str(port)], stdout=subprocess.DEVNULL)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until(f"{url}/_simulator/behaviour", simulator)
        body = json.dumps({"latency_ms": LATENCY_S * 1000}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{url}/_simulator/behaviour", body, method="PUT")).close()
        alone = uvloop.run(bare(url, options.count))
        with tempfile.TemporaryDirectory() as folder:
            took = backfill(folder, url, options.count)
    finally:
        simulator.kill()
        simulator.wait()
    nominal = options.count * LATENCY_S
    print(f"{options.count} profiles: {took:.1f} s, {took / nominal:.2f} x N x latency (target 1.3); "
          f"the calls alone {alone:.1f} s, so {took / alone:.2f} x")  # fmt: skip


if __name__ == "__main__":
    main()
