"""Carries out what is sent: it happens once, its echo is sent, the call is answered, each as the behaviour wants."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from aiohttp import web

from inboxd.simulator.background import Background
from inboxd.simulator.behaviour import Behaviour
from inboxd.simulator.errors import graph_error, refused
from inboxd.simulator.fates import BEFORE, Fate, Fates
from inboxd.simulator.payloads import Item

Tell = Callable[[Item], Awaitable[object]]
"""Sends a webhook payload."""


class Done(NamedTuple):
    """What a send has brought about: its answer, the same without an id, and the webhooks that tell of it."""

    answer: Item
    without_id: Item
    echoes: tuple[Item, ...]


class Dispatch:
    """Carries out sends. `tell` sends webhooks."""

    def __init__(
        self, behaviour: Callable[[], Behaviour], chance: random.Random, background: Background, tell: Tell
    ) -> None:
        self._behaviour = behaviour
        self._fates = Fates(behaviour, chance)
        self._background = background
        self._tell = tell

    async def carry_out(self, request: web.Request, send: Callable[[Fate], Done]) -> web.Response:
        """Let `send` happen, or not, and answer. Raises RefusedError when the behaviour refuses it."""
        behaviour, fate = self._behaviour(), self._fates.next()
        if fate.fails:
            raise refused(
                behaviour.send_error_code,
                "Simulated",
                status=behaviour.send_error_status,
                subcode=behaviour.send_error_subcode,
            )
        if fate.answer in BEFORE:
            return _broken(request, fate.answer)
        if fate.answer == "slow":
            await asyncio.sleep(behaviour.send_answer_ms / 1000)
        done = send(fate)
        await self._echo(done.echoes, fate.echo, behaviour)
        if fate.answer == "late":
            await asyncio.sleep(behaviour.send_answer_ms / 1000)
        if fate.answer == "no_id":
            return web.json_response(done.without_id)
        if fate.answer in {"normal", "late", "slow"}:
            return web.json_response(done.answer)
        return _broken(request, fate.answer)

    async def _echo(self, echoes: tuple[Item, ...], when: str, behaviour: Behaviour) -> None:
        for payload in echoes:
            if when in {"early", "doubled"}:
                await self._tell(payload)
            if when in {"normal", "late", "doubled"}:
                after_ms = behaviour.echo_late_ms if when == "late" else behaviour.echo_after_ms
                self._background.after(after_ms, lambda payload=payload: self._tell(payload))  # type: ignore[misc]


def _broken(request: web.Request, answer: str) -> web.Response:
    """The answer from which nobody can tell whether it was sent, or no answer at all."""
    match answer:
        case "odd_error_after_sending":
            return graph_error(500, 1, "An unknown error occurred", subcode=1357046)
        case "html_after_sending":
            sorry = "<html>Sorry, something went wrong.</html>"
            return web.Response(status=502, text=sorry, content_type="text/html")
        case "dropped" | "cut_before":
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        case _:
            return graph_error(500, 2, "Service temporarily unavailable")
