"""The account's mailbox at Meta, as the Conversations API lists it. Times are milliseconds since the epoch, UTC."""

from collections.abc import Iterator
from enum import StrEnum
from typing import Final, Generic, TypeVar

import msgspec

T = TypeVar("T")
MOST_SEEN: Final = 100_000
"""Items of one list that are remembered at once."""


class Detail(StrEnum):
    """Whether Meta showed the details of a message, or only its id and time."""

    READABLE = "readable"
    UNAVAILABLE = "unavailable"
    """Meta shows details only of the newest messages, and says of older ones that they were deleted. So this never
    means that the message was deleted."""


class Party(msgspec.Struct, frozen=True):
    """One side of a conversation. The account's own id may be another one than in webhooks."""

    id: str
    username: str | None = None


class ListedConversation(msgspec.Struct, frozen=True):
    """A conversation in the list."""

    id: str
    updated_time: int | None
    """When it last changed; None when Meta sent no usable time."""
    participants: tuple[Party, ...] = ()
    """Both sides, where Meta named them: see `domain.own_identity`."""


class ListedAttachment(msgspec.Struct, frozen=True, omit_defaults=True):
    """An attachment. `type` is named as in webhooks: image, video, audio, file, template."""

    type: str
    url: str | None = None
    mime_type: str | None = None
    name: str | None = None
    title: str | None = None
    preview_url: str | None = None
    width: int | None = None
    height: int | None = None
    size: int | None = None


class StoryKind(StrEnum):
    """What a message has to do with a story."""

    MENTION = "mention"
    REPLY = "reply"


class ListedStory(msgspec.Struct, frozen=True):
    """The story that a message mentions or replies to."""

    kind: StoryKind
    id: str | None = None
    link: str | None = None
    """None when the story has expired."""


class ListedReaction(msgspec.Struct, frozen=True):
    """A reaction, and everyone who reacted in this way. Meta does not say when."""

    emoji: str
    by: tuple[Party, ...] = ()


class ListedMessage(msgspec.Struct, frozen=True, omit_defaults=True):
    """A message. Without its details, only `id` and perhaps `created_time` are set."""

    id: str
    created_time: int | None
    """To the second; None when Meta sent no usable time."""
    detail: Detail
    sender: Party | None = None
    recipients: tuple[Party, ...] = ()
    text: str | None = None
    attachments: tuple[ListedAttachment, ...] | None = None
    """None when Meta left them out, as it does with Instagram Login. That does not mean that there are none."""
    shares: tuple[str, ...] = ()
    """The links that were shared. Shared posts and stories have none."""
    story: ListedStory | None = None
    reactions: tuple[ListedReaction, ...] | None = None
    """None when Meta left them out."""
    is_unsupported: bool = False


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One page of a list. A page may be empty although there is a next one."""

    items: tuple[T, ...]
    after: str | None = None
    """The cursor of the next page; None at the end. It is not for keeping: Meta's cursors end."""
    set_aside: int = 0
    """The number of items without a usable id."""
    cut_off: bool = False
    """Meta says that there is a next page, but not how to ask for it. The walk is not complete."""

    def __iter__(self) -> Iterator[T]:
        return iter(self.items)


class SeenPages:
    """Notices a list that leads nowhere: a cursor comes again, or `patience` pages in a row bring nothing new."""

    def __init__(self, patience: int = 3) -> None:
        self._patience = patience
        self._stale = 0
        self._cursors: set[int] = set()
        self._items: set[int] = set()

    def goes_on(self, page: "Page[ListedConversation] | Page[ListedMessage]") -> bool:
        """Note the next page of a list. Returns whether the one after it leads anywhere."""
        items = {hash(one.id) for one in page}
        self._stale = 0 if items - self._items else self._stale + 1
        if page.after is None or hash(page.after) in self._cursors or self._stale >= self._patience:
            return False
        if len(self._items) > MOST_SEEN:
            self._items.clear()
        self._items |= items
        self._cursors.add(hash(page.after))
        return True
