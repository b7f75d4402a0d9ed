"""What goes wrong with webhooks: they are dropped, sent twice or late, reduced to their companions, or not sent."""

import random
from collections.abc import Callable
from typing import Final

from inboxd.simulator.behaviour import Behaviour
from inboxd.simulator.payloads import Item

_MOST_LATER: Final = 5
_COMMENT_FIELDS: Final = frozenset({"comments", "live_comments", "mentions"})


class WebhookFaults:
    """Decides which payloads are sent, and when.

    `sends(account_id)` says whether webhooks are sent for an account, `subscribed(account_id, field)` whether it is
    subscribed to a webhook field.
    """

    def __init__(
        self,
        behaviour: Callable[[], Behaviour],
        sends: Callable[[str], bool],
        subscribed: Callable[[str, str], bool],
        chance: random.Random,
    ) -> None:
        self._behaviour = behaviour
        self._sends = sends
        self._subscribed = subscribed
        self._random = chance
        self._late: list[tuple[int, Item]] = []
        """Payloads that wait, each with the number of payloads that come first."""
        self._accompanied: set[str] = set()
        self.dropped = 0
        """Payloads that were not sent, or not with everything in them."""

    def passed(self, payload: Item) -> list[Item]:
        """What to send now that `payload` has come up: nothing, itself, itself twice, and what was late."""
        due = [late for after, late in self._late if after <= 1]
        self._late = [(after - 1, late) for after, late in self._late if after > 1]
        return self._now(payload) + due

    def rest(self) -> list[Item]:
        """All that is late, in any order."""
        found = [late for _, late in self._late]
        self._late.clear()
        return self._random.sample(found, len(found))

    def _now(self, payload: Item) -> list[Item]:
        behaviour = self._behaviour()
        kept = self._kept(payload, companions_only=behaviour.companions_only)
        if kept is not payload:
            self.dropped += 1
        if kept is None:
            return []
        if self._random.random() < behaviour.webhooks_dropped:
            self.dropped += 1
            return []
        if self._random.random() < behaviour.webhooks_delayed:
            self._late.append((self._random.randint(1, _MOST_LATER), kept))
            return []
        return [kept, kept] if self._random.random() < behaviour.webhooks_duplicated else [kept]

    def _kept(self, payload: Item, *, companions_only: bool) -> Item | None:
        """The payload with only what is sent at all; None when nothing is."""
        entries = [one for one in payload.get("entry", ()) if self._sends(str(one.get("id")))]
        if self._behaviour().comments_need_subscription:
            entries = [one for one in entries if self._is_subscribed(one)]
        if companions_only:
            entries = [found for one in entries if (found := self._companions(one)) is not None]
        if entries == payload.get("entry"):
            return payload
        return {**payload, "entry": entries} if entries else None

    def _is_subscribed(self, entry: Item) -> bool:
        """Whether the account gets what an entry tells of comments and mentions."""
        fields = {one.get("field") for one in (*entry.get("changes", ()), entry)} & _COMMENT_FIELDS
        return all(self._subscribed(str(entry.get("id")), str(one)) for one in fields)

    def _companions(self, entry: Item) -> Item | None:
        items = [found for one in entry.get("messaging", ()) if (found := self._companion(one)) is not None]
        return {"id": entry["id"], "time": entry["time"], "messaging": items} if items else None

    def _companion(self, item: Item) -> Item | None:
        """The companion that tells of a message without saying anything of it. It is made once for each message."""
        message, edit = item.get("message") or {}, item.get("message_edit") or {}
        mid = edit.get("mid") if edit and not edit.get("num_edit") else message.get("mid")
        if mid is None or mid in self._accompanied or message.get("is_deleted") or message.get("is_echo"):
            return None
        self._accompanied.add(mid)
        return {"timestamp": item["timestamp"], "message_edit": {"mid": mid, "num_edit": 0}}
