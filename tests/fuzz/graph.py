"""Whatever the Graph API may answer: whole HTTP responses for the client, odd profiles and accounts for the daemon."""

import asyncio
import json
import random
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import msgspec
from inboxd.domain.account import LoginType
from inboxd.meta.account_graph import AccountGraph
from inboxd.meta.graph_errors import GraphError
from inboxd.storage.database import Database

from tests.fuzz.daemon import HEADERS, Daemon, running, until, usual
from tests.fuzz.mutations import encoded, mutated, mutated_bytes
from tests.fuzz.raw_server import listening, response
from tests.fuzz.surface import Failure, Surface
from tests.fuzz.talk import deliver_from, profile_of
from tests.hostile import ERROR, ME, PROFILE
from tests.support import ACCOUNT, ANA, ManualClock, meta

PAGE: Final = {
    "id": "1234567890",
    "name": "Shop",
    "instagram_business_account": {"id": ACCOUNT, "username": "the.shop"},
}
TOKEN: Final = {"access_token": "IGAAnew", "token_type": "bearer", "expires_in": 5_184_000}
ANOTHER: Final = {**ME, "user_id": "17841499999999999"}
SUBSCRIBED: Final = {"data": [{"id": "1", "name": "app", "subscribed_fields": ["messages", "message_reactions"]}]}
ANSWERS: Final[list[Any]] = [
    PROFILE, ME, {"data": [ME]}, PAGE, TOKEN, SUBSCRIBED, {"data": []}, {"success": True}, {"error": ERROR},
    {"error_type": "OAuthException", "code": 400, "error_message": "no"},
]  # fmt: skip
CODES: Final = (0, 1, 2, 4, 10, 17, 100, 190, 200, 230, 613, 9010, 80002, 2**31, 2**64, -1)
STATUSES: Final = (
    "200 OK", "400 Bad Request", "403 Forbidden", "429 Too Many", "302 Found", "500 X", "503 X", "204 No Content",
    "999 X", "099 X", "2e2 OK",
)  # fmt: skip
USAGE: Final = {"call_count": 28, "total_cputime": 25, "total_time": 25, "estimated_time_to_regain_access": 3}
HEADER_NAMES: Final = (
    b"X-App-Usage", b"X-Business-Use-Case-Usage", b"Retry-After", b"Content-Encoding", b"Location", b"Content-Length",
    b"Transfer-Encoding", b"Content-Type", b"Set-Cookie", b"Connection",
)  # fmt: skip
HTML: Final = b"<html><body>Sorry, something went wrong.</body></html>"

Call = Callable[[AccountGraph], Coroutine[Any, Any, Any]]
CALLS: Final[list[Call]] = [
    lambda graph: graph.user_profile(ANA),
    lambda graph: graph.owner(),
    lambda graph: graph.subscribe(),
    lambda graph: graph.subscribed_fields(),
    lambda graph: graph.read_messages(),
    lambda graph: graph.refresh_token(),
]


class HastyClock(ManualClock):
    """Nobody waits for an end of a stop that Meta named."""

    async def wait(self, event: asyncio.Event, timeout_s: float | None) -> bool:
        if timeout_s is None:
            return await event.wait()
        await self.sleep(timeout_s)
        return event.is_set()


class GraphResponses(Surface):
    """HTTP responses to each call of the client. What comes of one is a value that can be stored, or a GraphError."""

    name: ClassVar[str] = "responses"
    per_round: ClassVar[int] = 100

    def make(self, chance: random.Random) -> bytes:
        answer: Any = chance.choice([PROFILE, PROFILE, PROFILE, *ANSWERS])
        if "error" in answer and chance.random() < 0.5:
            answer = {"error": {**ERROR, "code": chance.choice(CODES), "error_subcode": chance.choice(CODES)}}
        body = encoded(mutated(answer, chance, ANSWERS)) if chance.random() < 0.8 else encoded(answer)
        if chance.random() < 0.15:
            body = mutated_bytes(chance.choice((body, HTML)), chance)
        headers = b"Content-Type: application/json\r\n"
        if chance.random() < 0.4:
            value = encoded(mutated(chance.choice(({"a": [USAGE]}, USAGE, 60)), chance, [USAGE]))
            value = mutated_bytes(value, chance) if chance.random() < 0.2 else value
            headers += chance.choice(HEADER_NAMES) + b": " + value[:7000] + b"\r\n"
        found = response(body, status="200 OK" if chance.random() < 0.6 else chance.choice(STATUSES), headers=headers)
        return mutated_bytes(found[:200], chance) + found[200:] if chance.random() < 0.1 else found

    async def run(self, folder: Path, inputs: Sequence[bytes]) -> None:
        async with Database(folder / "inboxd.sqlite3") as database, listening(usual) as server:
            for one in inputs:
                for last in (ANA, "me", "subscribed_apps", "conversations", "refresh_access_token"):
                    server.answers[last] = one
                for login_type in LoginType:
                    for call in CALLS:
                        async with meta(server.url, database, HastyClock()) as at:
                            await _judge(call, await at.account(login_type=login_type), one)


async def _judge(call: Call, graph: AccountGraph, answer: bytes) -> None:
    try:
        found = await asyncio.wait_for(call(graph), 30)
    except GraphError as error:
        found = str(error)
    except Exception as error:
        raise Failure(f"{type(error).__name__}: {error} from {answer[:500]!r}") from error
    try:
        told = msgspec.json.encode(found, enc_hook=lambda secret: secret.reveal())
    except (UnicodeEncodeError, OverflowError) as error:
        raise Failure(f"what came of {answer[:500]!r} cannot be stored: {error}") from error
    if len(told) > 100_000:
        raise Failure(f"what came of {answer[:500]!r} has {len(told)} bytes")


class GraphAnswers(Surface):
    """Profiles (P), owners of tokens (M) and subscriptions (S) with odd members: all of it comes to be shown."""

    name: ClassVar[str] = "answers"
    per_round: ClassVar[int] = 80

    def make(self, chance: random.Random) -> bytes:
        letter, answer = chance.choice([(b"P", PROFILE)] * 3 + [(b"M", ANOTHER), (b"S", SUBSCRIBED)])
        while not _is_an_answer(found := encoded(mutated(answer, chance, [PROFILE, ME, SUBSCRIBED], most=4))):
            pass
        return letter + found

    async def run(self, folder: Path, inputs: Sequence[bytes]) -> None:
        people = [f"83{number:014d}" for number in range(len(inputs))]
        sound = [f"84{number:014d}" for number in range(3)]
        async with running(folder) as daemon:
            odd = [who for who, one in zip(people, inputs, strict=True) if one[:1] == b"P"]
            for who, one in zip(people, inputs, strict=True):
                daemon.meta.answers[who] = response(one[1:])
            for who in sound:
                daemon.meta.answers[who] = profile_of(who)
            await deliver_from(daemon, odd)
            await deliver_from(daemon, sound)
            await daemon.processed()
            await until(lambda: _all_asked(daemon), "not everybody's profile is asked for")
            for one in inputs:
                if one[:1] in {b"M", b"S"}:
                    await _account(daemon, one)
            daemon.meta.answers.pop("me", None)
            shown = await daemon.look_over()
        names = {one["participantPlatformId"]: one["username"] for one in shown.lists["/api/participants"]}
        lost = [who for who in sound if names.get(who) != f"user_{who}"]
        if lost:
            raise Failure(f"sound profiles are not shown: {lost}")


def _is_an_answer(body: bytes) -> bool:
    """Whether it is an object, however odd: what is none says that Meta is not there, and all calls rest."""
    try:
        return isinstance(json.loads(body.decode("utf-8", "surrogateescape"), parse_int=str), dict)
    except (ValueError, RecursionError):
        return False


async def _account(daemon: Daemon, one: bytes) -> None:
    """An account is added whose token belongs to whoever; or the one that we have is looked over."""
    path, body = f"/api/accounts/{ACCOUNT}/check", b""
    if one[:1] == b"M":
        daemon.meta.answers["me"] = response(one[1:])
        path, body = "/api/accounts", json.dumps({"token": "IGAA"}).encode()
    else:
        daemon.meta.answers.pop("me", None)
        daemon.meta.answers["subscribed_apps"] = response(one[1:])
    async with daemon.session.post(daemon.admin_url + path, data=body, headers=HEADERS) as answer:
        told = await answer.read()
        if answer.status not in {200, 201, 422, 502, 503}:
            raise Failure(f"POST {path} answers {answer.status}, {told[:300]!r}, when Meta says {one[1:300]!r}")


async def _all_asked(daemon: Daemon) -> bool:
    waiting = (await daemon.get("/api/participants?profileState=pending&limit=200"))["participants"]
    return all(one["attempts"] for one in waiting)
