"""The account's side of the demo: it answers a few conversations and comments by the API, as a CRM would."""

import asyncio
import time
from typing import Any, Final

import aiohttp

from inboxd.simulator.comment_control import FIRST_POST, NewComment
from inboxd.simulator.graph_server import GraphServer
from inboxd.simulator.people import igsid

REPLIES: Final = (
    "Hi! Yes, it is still there. 💙",
    "We ship everywhere in Europe, in two or three days.",
    "Of course. Shall I put one aside for you?",
)
_COMMENTS: Final = ("¿Precio? 😍", "Is it linen?", "Do you have it in blue?")
_PUBLIC: Final = "20 €. We have just written you a message."
_PRIVATE: Final = "Hello! It is 20 €, and we have it in all sizes."
_FIRST_COMMENTER: Final = 40
"""Commenters are people who have written no message yet."""
_POLL_S: Final = 0.2


class Shop:
    """Answers by the admin API at `url`. `replies` are those that are to be sent, `sent` those that Meta has."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str, account_id: str) -> None:
        self._session = session
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}"}
        self._account_id = account_id
        self.replies: list[str] = []
        """The ids of the outbound messages."""

    async def comment(self, instagram: GraphServer) -> None:
        """People comment on a post of the account."""
        instagram.posts.publish(
            self._account_id, media_id=FIRST_POST, caption="Spring collection 🌷", media_product_type="REELS"
        )
        for number, text in enumerate(_COMMENTS, _FIRST_COMMENTER):
            await instagram.comment_control.write(
                NewComment(account_id=self._account_id, from_id=igsid(number), text=text)
            )

    async def answer(self, patience_s: float) -> None:
        """Answer a few conversations, and a comment both in public and in private, as soon as they are there."""
        conversations, comments = await self._found(time.monotonic() + patience_s)
        for one, text in zip(conversations, REPLIES, strict=False):
            await self._send(f"/api/messaging/conversations/{one['id']}/messages", {"text": text, "sentBy": "human"})
        for comment in comments:
            await self._send(f"/api/comments/{comment['id']}/replies", {"text": _PUBLIC, "sentBy": "human"})
            private = {"accountId": self._account_id, "commentId": comment["platformCommentId"], "text": _PRIVATE}
            await self._send("/api/messaging/messages", private | {"sentBy": "human"})

    async def _found(self, deadline: float) -> tuple[list[Any], list[Any]]:
        """Conversations that can be answered and the first comment, as soon as they are there; at the deadline less."""
        while True:
            listed = (await self._get("/api/messaging/conversations?limit=50"))["conversations"]
            conversations = [one for one in listed if one["canReply"]][-len(REPLIES) :]
            threads = (await self._get(f"/api/comments?accountId={self._account_id}"))["threads"]
            comments = [one["comment"] for one in threads if one["comment"]["text"] == _COMMENTS[0]]
            if (len(conversations) == len(REPLIES) and comments) or time.monotonic() > deadline:
                return conversations, comments
            await asyncio.sleep(_POLL_S)

    async def sent(self) -> int:
        """How many of the replies Meta has."""
        found = [await self._get(f"/api/messaging/outbound/{one}") for one in self.replies]
        return sum(one["state"] in {"sent", "delivered", "read"} for one in found)

    async def until_sent(self, patience_s: float) -> bool:
        """Wait until Meta has all replies. Returns False when it takes longer, or when there are none."""
        deadline = time.monotonic() + patience_s
        while await self.sent() < len(self.replies):
            if time.monotonic() > deadline:
                return False
            await asyncio.sleep(_POLL_S)
        return bool(self.replies)

    async def _get(self, path: str) -> dict[str, Any]:
        async with self._session.get(self._url + path, headers=self._headers) as response:
            response.raise_for_status()
            found: dict[str, Any] = await response.json()
            return found

    async def _send(self, path: str, body: dict[str, str]) -> None:
        async with self._session.post(self._url + path, json=body, headers=self._headers) as response:
            response.raise_for_status()
            self.replies.append((await response.json())["id"])
