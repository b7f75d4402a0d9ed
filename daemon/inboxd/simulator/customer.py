"""The simulated customer: sees what the account sends, and answers it."""

from collections.abc import Callable
from typing import Final

from inboxd.simulator.background import Background
from inboxd.simulator.behaviour import Behaviour
from inboxd.simulator.dispatch import Tell
from inboxd.simulator.mailbox import Mailbox
from inboxd.simulator.payloads import Item, delivery, without_parties

_ANSWERS: Final = (
    "Great, thank you! 🙌",
    "Perfect. Can you put one aside for me?",
    "¡Gracias! Paso mañana.",
    "Oh nice, how much is it?",
    "Merci beaucoup !",
    "OK, I will think about it.",
    "ありがとうございます！",
)


class Customer:
    """Sees and answers messages of accounts, after the times that the behaviour says. `tell` sends webhooks."""

    def __init__(
        self,
        mailbox: Mailbox,
        behaviour: Callable[[], Behaviour],
        background: Background,
        tell: Tell,
        now: Callable[[], float],
    ) -> None:
        self._mailbox = mailbox
        self._behaviour = behaviour
        self._background = background
        self._tell = tell
        self._now = now
        self._newest: dict[tuple[str, str], str] = {}
        self.answers = 0
        """How often customers have answered."""

    def got(self, account_id: str, participant_id: str, mid: str) -> None:
        """Note a message of an account. Of several messages in a row only the last is answered."""
        behaviour, key = self._behaviour(), (account_id, participant_id)
        if behaviour.customer_reads_ms > 0:
            self._background.after(behaviour.customer_reads_ms, lambda: self._see(key, mid))
        if behaviour.customer_answers_ms > 0:
            self._newest[key] = mid
            self._background.after(behaviour.customer_answers_ms, lambda: self._answer(key, mid))

    async def _see(self, key: tuple[str, str], mid: str) -> None:
        await self._tell(self._payload(key, {"read": {"mid": mid}}))

    async def _answer(self, key: tuple[str, str], mid: str) -> None:
        if self._newest.get(key) != mid:
            return
        del self._newest[key]
        text = _ANSWERS[self.answers % len(_ANSWERS)]
        self.answers += 1
        answer = self._mailbox.new_mid(*key)
        payload = self._payload(key, {"message": {"mid": answer, "text": text}})
        entry = payload["entry"][0]
        companion = {"timestamp": entry["time"], "message_edit": {"mid": answer, "num_edit": 0}}
        entry["messaging"].append(without_parties(companion))
        await self._tell(payload)

    def _payload(self, key: tuple[str, str], body: Item) -> Item:
        account_id, participant_id = key
        at_ms = int(self._now() * 1000)
        item = {"sender": {"id": participant_id}, "recipient": {"id": account_id}, "timestamp": at_ms, **body}
        return delivery(account_id, at_ms, [item])
