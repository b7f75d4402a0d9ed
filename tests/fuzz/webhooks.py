"""Whatever Meta's signature brings: items, entries and bodies that are odd, between neighbours that are not."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, ClassVar, Final

from tests.fuzz.daemon import HEADERS, Daemon, running
from tests.fuzz.mutations import MARKUP, encoded, is_one_element, mutated, mutated_bytes
from tests.fuzz.surface import Failure, Surface
from tests.support import ACCOUNT, T0, strict

PAYLOADS: Final = Path(__file__).parent.parent / "payloads"
SOUND: Final = f"ok {MARKUP}"
"""What neighbours say: nothing is wrong with it, as long as a page shows it as text."""
MAX_BODY: Final = 4 * 1024 * 1024
THOUSAND: Final = b"T"
BODY: Final = b"B"
ENTRY: Final = b"E"
LISTS: Final = {b"I": b"messaging", b"S": b"standby", b"C": b"changes", THOUSAND: b"messaging"}
"""An input begins with a letter that says where it stands."""


class Webhooks(Surface):
    """Deliveries through the real socket."""

    name: ClassVar[str] = "webhooks"
    per_round: ClassVar[int] = 150

    def __init__(self) -> None:
        self._bodies = [path.read_bytes() for path in sorted(PAYLOADS.glob("*.json"))]
        self._trees = [tree for tree in map(_tree, self._bodies) if tree is not None]
        entries = [entry for tree in self._trees for entry in _listed(tree, "entry")]
        self._entries = [entry for entry in entries if isinstance(entry, dict)]
        self._items = {
            letter: [item for entry in self._entries for item in _listed(entry, name.decode())]
            for letter, name in LISTS.items()
        }

    def make(self, chance: random.Random) -> bytes:
        letter = chance.choice([b"I"] * 6 + [b"S", b"C", b"C", ENTRY, ENTRY, BODY, BODY])
        if chance.random() < 0.01:
            letter = THOUSAND
        if letter == BODY and chance.random() < 0.6:
            return BODY + mutated_bytes(chance.choice(self._bodies), chance)
        pool: list[Any] = {BODY: self._trees, ENTRY: self._entries, **self._items}[letter]
        found = encoded(mutated(chance.choice(pool), chance, pool))
        if chance.random() < 0.7:  # else it is about a message that is known already
            found = found.replace(b'"m1"', b'"m%d"' % chance.randrange(10**9))
        return letter + found if is_one_element(found) else BODY + found

    async def run(self, folder: Path, inputs: Sequence[bytes]) -> None:
        expected: dict[str, str] = {}
        async with running(folder) as daemon:
            async with _listening(daemon):
                for number, one in enumerate(inputs):
                    body, promised = delivery(number, one)
                    if len(body) > MAX_BODY:
                        continue
                    status = await daemon.deliver(body)
                    if status != 200:
                        raise Failure(f"a signed delivery is answered {status}: {body[:300]!r}")
                    expected |= promised
                await daemon.processed()
            shown = await daemon.look_over()
        lost = {mid: text for mid, text in expected.items() if shown.messages.get(mid) != text}
        if lost:
            raise Failure(f"{len(lost)} of {len(expected)} valid neighbours are not shown, such as {min(lost)}")


def delivery(number: int, one: bytes) -> tuple[bytes, dict[str, str]]:
    """The delivery that an input makes, and the messages in it that must be shown."""
    letter, text = one[:1], one[1:]
    if letter == ENTRY and is_one_element(text):
        before, after = (_entry(b"messaging", _neighbour(number, which)) for which in (0, 1))
        entries = b",".join((before, text, after))
    elif letter in LISTS and is_one_element(text):
        odd = b",".join([text] * (1000 if letter == THOUSAND and len(text) < 3000 else 1))
        before, after = (_neighbour(number, which) for which in (0, 1))
        if LISTS[letter] == b"messaging":
            entries = _entry(b"messaging", b",".join((before, odd, after)))
        else:
            entries = _entry(LISTS[letter], odd, b',"messaging":[%s,%s]' % (before, after))
    else:
        return text, {}
    return b'{"object":"instagram","entry":[%s]}' % entries, {_mid(number, which): SOUND for which in (0, 1)}


def _mid(number: int, which: int) -> str:
    return f"neighbour-{number}-{which}"


def _neighbour(number: int, which: int) -> bytes:
    """A message that nothing is wrong with, from one of ten people."""
    ends = {"sender": {"id": f"81000000000000{number % 10:02d}"}, "recipient": {"id": ACCOUNT}}
    return json.dumps(
        {**ends, "timestamp": T0 + number, "message": {"mid": _mid(number, which), "text": SOUND}}
    ).encode()


def _entry(name: bytes, items: bytes, more: bytes = b"") -> bytes:
    return b'{"id":"%s","time":%d,"%s":[%s]%s}' % (ACCOUNT.encode(), T0, name, items, more)


def _tree(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def _listed(holder: Any, name: str) -> list[Any]:
    found = holder.get(name) if isinstance(holder, dict) else None
    return found if isinstance(found, list) else []


@asynccontextmanager
async def _listening(daemon: Daemon) -> AsyncIterator[None]:
    """Whatever is streamed meanwhile must be JSON."""
    task = asyncio.ensure_future(_listen(daemon))
    try:
        yield
        if task.done():
            await task
    finally:
        task.cancel()
        await asyncio.wait([task])


async def _listen(daemon: Daemon) -> None:
    async with daemon.session.get(f"{daemon.admin_url}/api/events/stream", headers=HEADERS, timeout=None) as stream:
        async for line in stream.content:
            if line.startswith(b"data: "):
                try:
                    strict(line.removeprefix(b"data: ").decode("utf-8"))
                except (ValueError, AssertionError) as error:
                    raise Failure(f"the stream tells what is no JSON: {line[:300]!r}") from error
