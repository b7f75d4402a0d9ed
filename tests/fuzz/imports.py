"""Import files, CSV and JSON Lines, odd in content or in form, into a running daemon and into a file of its own."""

import asyncio
import io
import json
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from typing import ClassVar, Final

from inboxd.conversations.commands import ImportFileError, OfflineInbox, import_rows
from inboxd.http.client import AdminClient
from inboxd.http.command_access import CommandAccess
from inboxd.runtime.secret import Secret
from inboxd.storage.database import Database

from tests.fuzz.daemon import running
from tests.fuzz.mutations import encoded, mutated, mutated_bytes
from tests.fuzz.surface import CORPUS, Failure, Surface
from tests.support import ACCOUNT, ADMIN_TOKEN, event_log

LINES: Final = b"J"
"""A line of JSON Lines, between two that are sound; anything else is a file as a whole."""
FILE: Final = b"F"


class Imports(Surface):
    """Files as `inboxd import-conversations` reads them."""

    name: ClassVar[str] = "imports"
    per_round: ClassVar[int] = 120

    def __init__(self) -> None:
        files = [path.read_bytes() for path in sorted((CORPUS / "imports").iterdir())]
        self._files = files
        self._rows = [json.loads(line) for file in files if file.startswith(b"{") for line in file.splitlines()]

    def make(self, chance: random.Random) -> bytes:
        if chance.random() < 0.5:
            return FILE + mutated_bytes(chance.choice(self._files), chance, most=5)
        line = encoded(mutated(chance.choice(self._rows), chance, self._rows))
        return LINES + (mutated_bytes(line, chance) if chance.random() < 0.2 else line)

    async def run(self, folder: Path, inputs: Sequence[bytes]) -> None:
        expected: list[str] = []
        async with running(folder) as daemon:
            client = partial(AdminClient, f"http://127.0.0.1:{daemon.process.admin}", Secret(ADMIN_TOKEN))
            for number, one in enumerate(inputs):
                sound = [f"89{number:012d}{which:02d}" for which in (0, 1)]
                text = one[1:]
                if one[:1] == LINES and b"\n" not in text and b"\r" not in text:
                    text = b"%s\n%s\n%s\n" % (_row(sound[0]), text, _row(sound[1]))
                    expected += sound
                for path in (daemon.process.database, folder / "another.sqlite3"):
                    await _import(CommandAccess(client, partial(_offline, path)), text)
            shown = await daemon.look_over()
        known = {one["participantPlatformId"] for one in shown.lists["/api/messaging/conversations"]}
        lost = [who for who in expected if who not in known]
        if lost:
            raise Failure(f"{len(lost)} of {len(expected)} valid rows are not shown, such as {lost[0]}")


@asynccontextmanager
async def _offline(path: Path) -> AsyncIterator[OfflineInbox]:
    async with Database(path) as database:
        yield OfflineInbox(database, event_log())


async def _import(access: CommandAccess[OfflineInbox], text: bytes) -> None:
    """The command's own function; whatever it says must be printable as UTF-8, as a terminal wants it."""
    told = io.StringIO()
    file = io.TextIOWrapper(io.BytesIO(text), encoding="utf-8-sig", errors="surrogateescape", newline="")
    try:
        with redirect_stdout(told), redirect_stderr(told):
            code = await import_rows(access, file)
        told.getvalue().encode("utf-8")
    except ImportFileError as error:
        code = error.exit_code
        str(error).encode("utf-8", "surrogateescape")
    except Exception as error:
        raise Failure(f"{type(error).__name__}: {error} from {text[:500]!r}") from error
    if code not in {0, 1, 65}:
        raise Failure(f"the exit code is {code} for {text[:500]!r}")
    await asyncio.sleep(0)


def _row(who: str) -> bytes:
    return json.dumps({"clientAccountId": ACCOUNT, "participantPlatformId": who}).encode()
