"""Meta's callbacks about app users: signed requests and forms that are odd."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Final
from urllib.parse import quote

from inboxd.meta.signed_request import sign_request
from inboxd.privacy.callbacks import DEAUTHORIZE_PATH, DELETION_PATH

from tests.fuzz.daemon import Daemon, running
from tests.fuzz.mutations import encoded, mutated, mutated_bytes
from tests.fuzz.surface import Failure, Surface
from tests.fuzz.talk import deliver_from
from tests.support import APP_SECRET

SOUND: Final = "8500000000000002"
PAYLOADS: Final[list[Any]] = [
    {"user_id": "218471", "algorithm": "HMAC-SHA256", "issued_at": 1_790_000_000, "expires": 1_790_003_600},
    {"user_id": 218471, "algorithm": "hmac-sha256", "user": {"country": "br", "locale": "pt_BR"}},
    {"user_id": "218471"},
]
SIGNED: Final = b"S"
"""What is signed for the sender; anything else is a form as it stands."""
FORM: Final = b"F"
TYPES: Final = {b"-": "multipart/form-data; boundary=x", b"{": "application/json"}
"""What a form says that it is, by its first letter; else the usual."""


class SignedRequests(Surface):
    """Callbacks through the real socket."""

    name: ClassVar[str] = "signed-requests"
    per_round: ClassVar[int] = 150

    def make(self, chance: random.Random) -> bytes:
        payload = encoded(mutated(chance.choice(PAYLOADS), chance, PAYLOADS))
        payload = mutated_bytes(payload, chance) if chance.random() < 0.2 else payload
        if chance.random() < 0.6:
            return SIGNED + payload
        form = f"signed_request={sign_request(payload[:4000], APP_SECRET)}".encode()
        if chance.random() < 0.3:
            form = b'--x\r\nContent-Disposition: form-data; name="signed_request"\r\n\r\n%s\r\n--x--\r\n' % form[15:]
        return FORM + mutated_bytes(form, chance)

    async def run(self, folder: Path, inputs: Sequence[bytes]) -> None:
        async with running(folder) as daemon:
            await deliver_from(daemon, [SOUND])
            for one in inputs:
                form = one[1:]
                if one[:1] == SIGNED:
                    form = b"signed_request=" + quote(sign_request(form, APP_SECRET)).encode()
                kind = TYPES.get(form[:1], "application/x-www-form-urlencoded")
                for path in (DEAUTHORIZE_PATH, DELETION_PATH):
                    await _call(daemon, path, kind, form)
            shown = await daemon.look_over()
        people = [one["participantPlatformId"] for one in shown.lists["/api/messaging/conversations"]]
        if people != [SOUND]:
            raise Failure(f"of somebody who asked for nothing is shown: {people}")


async def _call(daemon: Daemon, path: str, kind: str, form: bytes) -> None:
    """A callback; and where it is told how a deletion stands, that can be seen, for the person and the operator."""
    headers = {"Content-Type": kind}
    async with daemon.session.post(daemon.public_url + path, data=form, headers=headers) as answer:
        told = await answer.read()
    if answer.status not in {200, 400, 401, 413, 415}:
        raise Failure(f"POST {path} answers {answer.status}, {told[:300]!r}, to {form[:300]!r}")
    if answer.status == 200 and path == DELETION_PATH:
        code = json.loads(told.decode())["confirmation_code"]
        async with daemon.session.get(f"{daemon.public_url}{DELETION_PATH}/{code}") as page:
            text = (await page.read()).decode("utf-8")
        if page.status != 200 or code not in text:
            raise Failure(f"how the deletion {code} stands is not shown: {page.status}")
        await daemon.get(f"/api/deletions/{code}")
