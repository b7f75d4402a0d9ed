"""A real daemon for one round: started on a fresh file, fed, looked over, started again on the same file."""

import asyncio
import io
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
from inboxd.meta.signature import HEADER, sign

from tests.e2e.conftest import Process
from tests.fuzz.raw_server import RawServer, listening, response
from tests.fuzz.surface import Failure
from tests.fuzz.walk import Walk
from tests.hostile import ME, PROFILE
from tests.support import ACCOUNT, ADMIN_TOKEN, APP_SECRET, TOKEN

DEFECTS: Final = frozenset(
    {
        "avatar_fetch_crashed",
        "connection_failed",
        "deletion_failed",
        "delivery_postponed",
        "expiry_failed",
        "graph_unreachable",
        "processing_stalled",
        "profile_broken",
        "request_failed",
        "row_not_removed",
        "storage_refuses",
        "worker_crashed",
        "worker_gave_up",
        "worker_parked",
    }
)
"""Events that say that something of ours went wrong."""
MAX_MIB: Final = 320
"""Of resident memory, at most: an idle daemon has 60, a picture may take 48, a body of 4 MiB some times its size."""
PATIENCE_S: Final = 60.0
HEADERS: Final = {"Authorization": f"Bearer {ADMIN_TOKEN}"}


class Daemon:
    """The daemon, somebody who talks to it, and Meta as it sees it."""

    def __init__(self, process: Process, session: aiohttp.ClientSession, meta: RawServer) -> None:
        self.process = process
        self.session = session
        self.meta = meta
        self.public_url = f"http://127.0.0.1:{process.public}"
        self.admin_url = f"http://127.0.0.1:{process.admin}"

    async def deliver(self, body: bytes) -> int:
        """POST a signed delivery; the status."""
        url = f"{self.public_url}/webhooks/instagram"
        async with self.session.post(url, data=io.BytesIO(body), headers={HEADER: sign(body, APP_SECRET)}) as answer:
            await answer.read()
            return answer.status

    async def get(self, path: str) -> Any:
        """JSON from the admin listener."""
        async with self.session.get(self.admin_url + path, headers=HEADERS) as answer:
            body = await answer.read()
            if answer.status != 200:
                raise Failure(f"GET {path} answers {answer.status}: {body[:300]!r}")
            return json.loads(body.decode())

    async def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        async with self.session.get(f"{self.admin_url}/metrics", headers=HEADERS) as answer:
            lines = (await answer.text()).splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.partition("{")[0].split(" ")[0] == name)

    async def processed(self) -> None:
        """Wait until no delivery waits."""

        async def idle() -> bool:
            return bool((await self.get("/api/deliveries?state=pending"))["total"] == 0)

        await until(idle, "the backlog does not drain")

    async def start(self) -> None:
        try:
            await asyncio.to_thread(self.process.start)
        except AssertionError as error:
            raise Failure(f"the daemon does not start: {str(error)[-1500:]}") from error

    async def stop(self) -> None:
        """Ask it to end, and look at how it ended and at what it wrote."""
        self.look_at_memory()
        self.process.signal(signal.SIGTERM)
        code = await asyncio.to_thread(self.process.wait)
        if code != 0:
            raise Failure(f"the daemon ended with {code}")
        self.look_at_log()

    async def look_over(self) -> Walk:
        """Everything that holds whatever came in: ready, nothing broken, all shown, the same after a restart."""
        await self.processed()
        shown = await Walk.of(self.session, self.admin_url)
        ready = await self.get("/readyz")
        if ready != {"ready": True, "problems": [], "degraded": []}:
            raise Failure(f"not ready: {ready}")
        await self.stop()
        await self.start()
        await self.processed()
        again = await Walk.of(self.session, self.admin_url)
        if again.messages != shown.messages:
            raise Failure("messages are not the same after a restart")
        await self.stop()
        return shown

    def look_at_memory(self) -> None:
        if self.process.process is None or self.process.process.poll() is not None:
            raise Failure(f"the daemon has ended by itself: {self.process.log.read_text()[-1500:]}")
        status = Path(f"/proc/{self.process.process.pid}/status")
        if status.exists():
            most = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
            if int(most.split()[1]) > MAX_MIB * 1024:
                raise Failure(f"it took {most.split()[1]} kB of memory")

    def look_at_log(self) -> None:
        try:
            lines = self.process.logged()
        except (AssertionError, ValueError) as error:
            raise Failure(f"a line of the log is not as documented: {str(error)[:500]}") from error
        for line in lines:
            is_broken = line["event"] == "delivery_failed" and not str(line["error"]).startswith(
                "not a webhook payload"
            )
            if line["event"] in DEFECTS or is_broken or "exception" in line or "Traceback" in str(line):
                raise Failure(f"the log says: {str(line)[:1500]}")


async def until(condition: Any, otherwise: str) -> None:
    """Wait until `condition` holds. Raises Failure when it does not come to hold."""
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while not await condition():
        if asyncio.get_running_loop().time() > deadline:
            raise Failure(otherwise)
        await asyncio.sleep(0.01)


def usual(method: str, last: str) -> bytes:
    """What Meta answers where nothing else was put."""
    if last == "me":
        answer: dict[str, Any] = ME
    elif last == "subscribed_apps":
        answer = {"success": True} if method == "POST" else {"data": [{"subscribed_fields": ["messages"]}]}
    elif last == "conversations":
        answer = {"data": []}
    else:
        answer = {"username": f"user_{last}", "name": PROFILE["name"], "id": last}
    return response(json.dumps(answer).encode())


def _session() -> aiohttp.ClientSession:
    """Patient, and reading long lines of streams."""
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=30), read_bufsize=8 * 1024 * 1024)


@asynccontextmanager
async def running(folder: Path, **variables: str) -> AsyncIterator[Daemon]:
    """A daemon on a fresh file, with one account, and as much budget as it wants."""
    async with listening(usual) as meta, _session() as session:
        process = Process(
            folder,
            INBOXD_ACCOUNTS=json.dumps([{"id": ACCOUNT, "name": "shop"}]),
            INBOXD_ADMIN__MAX_FAILURES="1000000",
            INBOXD_AVATARS__ALLOW_HTTP="true",
            INBOXD_AVATARS__ALLOW_NETWORKS='["127.0.0.1/32"]',
            INBOXD_AVATARS__HOSTS='["127.0.0.1"]',
            INBOXD_BACKFILL__SCHEDULE="",
            INBOXD_BUDGET__CALLS_PER_HOUR="1000000",
            INBOXD_BUDGET__CALLS_PER_SECOND="1000",
            INBOXD_INSTAGRAM__FACEBOOK_GRAPH_URL=meta.url,
            INBOXD_INSTAGRAM__GRAPH_URL=meta.url,
            **{f"INBOXD_ACCOUNT_TOKEN_{ACCOUNT}": TOKEN},
            **variables,
        )
        process.executed = True  # its memory is looked at
        daemon = Daemon(process, session, meta)
        try:
            await daemon.start()
            yield daemon
        except aiohttp.ClientError as error:
            daemon.look_at_memory()
            raise Failure(f"the daemon hung up: {type(error).__name__}: {error}") from error
        except TimeoutError as error:
            raise Failure("the daemon does not answer") from error
        finally:
            if process.process is not None and process.process.poll() is None:
                process.process.kill()
                process.process.wait()
