"""Tells the account from the other side of its conversations.

The Conversations API lists both sides. It may name the account by another id than webhooks do: by the app-scoped id or
the Page's id.
"""

from collections.abc import Collection, Iterable

import msgspec

from inboxd.domain.mailbox import Party

MIN_CONVERSATIONS = 2
"""An id is learned only when it is the one that so many conversations with different people have in common."""


class OwnIdentity(msgspec.Struct, frozen=True):
    """The ids and the username by which the account is known."""

    ids: frozenset[str]
    """The id of webhooks, the app-scoped id, the Page's id, and what was learned."""
    username: str | None = None

    def is_own(self, party: Party) -> bool:
        """Whether `party` is the account, if nothing is known of the other side."""
        return party.id in self.ids or self._has_name(party)

    def others(self, participants: Collection[Party]) -> tuple[Party, ...] | None:
        """The participants other than the account; None when the account cannot be told from them.

        An id decides. The username counts only when no id does, because somebody else may take a name that the account
        has given up. When only the account takes part, it writes to itself, and the result is empty.
        """
        if any(party.id in self.ids for party in participants):
            return tuple(party for party in participants if party.id not in self.ids)
        rest = tuple(party for party in participants if not self._has_name(party))
        return rest if len(rest) < len(participants) else None

    def learn(self, conversations: Iterable[Collection[Party]]) -> "OwnIdentity":
        """The same with the only id that all these conversations have in common, if there is one.

        Nothing is learned while the known ids suffice, or while fewer than MIN_CONVERSATIONS other people are seen.
        """
        found = [frozenset(party.id for party in one) for one in conversations if one]
        common = frozenset.intersection(*found) if found else frozenset()
        people = frozenset.union(*found) - common if found else frozenset()
        if common & self.ids or len(common) != 1 or len(people) < MIN_CONVERSATIONS:
            return self
        return msgspec.structs.replace(self, ids=self.ids | common)

    def _has_name(self, party: Party) -> bool:
        mine, theirs = self.username, party.username
        return mine is not None and theirs is not None and mine.casefold() == theirs.casefold()
