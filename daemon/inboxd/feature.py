"""What one capability of inboxd gives to the house. `features.py` builds each, `app.py` starts what it gives.

A feature is a folder. Its `feature.py` has one function, `build`, which takes what the feature needs by name and
returns a `Feature`, or a subclass that also offers services to the features above it.
"""

import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, TypeVar

from aiohttp import web

from inboxd.domain.conversation import Conversation
from inboxd.domain.event import EventType
from inboxd.http.operations import Operation
from inboxd.http.pages import Pages
from inboxd.runtime.clock import Clock
from inboxd.runtime.metrics import Metrics
from inboxd.runtime.supervisor import Supervisor
from inboxd.runtime.worker import Schedule, Worker
from inboxd.storage.database import Database
from inboxd.storage.personal_data import Expiry, PersonalData

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """What every feature may be built from."""

    clock: Clock
    random: Callable[[], float]
    """A number from 0 to 1, for jitter."""
    database: Database
    metrics: Metrics
    supervisor: Supervisor
    commit_observers: list[Callable[[int, float], None]]
    """Called on the event loop after each commit, with its number of transactions and its duration in seconds."""


class Job(NamedTuple):
    """A worker and how it is run."""

    worker: Worker
    schedule: Schedule = Schedule()


class Setting(Generic[T]):
    """A setting that can change while the daemon runs. Call it for the value of the moment."""

    def __init__(self, name: str, value: T) -> None:
        self._name = name
        self._value = value

    def __call__(self) -> T:
        """The value now."""
        return self._value

    @property
    def rule(self) -> "ReloadRule":
        """Takes the new value."""
        return ReloadRule((self._name,), self._take)

    def _take(self, new: Mapping[str, Any]) -> None:
        self._value = new[self._name]


Projection = Callable[[sqlite3.Connection, Sequence[Any]], Callable[[], None] | None]


class Link(NamedTuple):
    """An entry of the dashboard's navigation."""

    path: str
    text: str
    position: int
    """Entries are shown in the order of their positions."""


class Need(NamedTuple):
    """Something that somebody should look at, and where: shown at the top of the overview."""

    text: str
    path: str
    urgent: bool = True
    """Urgent needs are shown before the others."""
    position: int = 0
    """Needs of the same urgency are shown in the order of their positions."""


class Card(NamedTuple):
    """A part of the overview."""

    template: str
    """Has a macro `section`, and may have a macro `tiles`, as `dashboard/overview.py` says."""
    context: Mapping[str, Any]
    position: int
    """Cards are shown in the order of their positions."""


class OverviewPart(NamedTuple):
    """What a feature shows on the overview, from one reading of its state."""

    card: Card
    needs: Sequence[Need]


class ThreadPart(NamedTuple):
    """What a feature shows below the messages of a conversation."""

    template: str
    """Has a macro `section(context, can_send)`."""
    context: Mapping[str, Any]


class ReloadRule(NamedTuple):
    """Settings or secrets that can change while the daemon runs."""

    names: tuple[str, ...]
    """Such as `public.max_waiting`, or the name of a secret."""
    apply: Callable[[Mapping[str, Any]], Awaitable[None] | None]
    """Takes the new values of all `names`; called once when any of them has changed."""


@dataclass(frozen=True, kw_only=True)
class Feature:
    """Everything that a feature gives to the house. Each member may be left out."""

    name: str
    workers: tuple[Job, ...] = ()
    start: "Callable[[Sequence[Feature]], Awaitable[None]] | None" = None
    """Called with all features when everything is built, before the workers start."""
    account_workers: Callable[[str], Sequence[Job]] | None = None
    """The workers of an account (by id) that begins to be served. They end when it is no longer served."""
    on_account_removed: Callable[[str], Awaitable[None]] | None = None
    """Called before the workers of an account end. May raise StorageError."""
    event_types: tuple[EventType, ...] = ()
    """The types of events that the feature appends to the event log."""
    projections: tuple[Projection, ...] = ()
    """Run inside the transaction that processes webhook events (`conversations/projection.py`)."""
    on_processed: Callable[[Counter[tuple[str, str]]], None] | None = None
    """Told after each commit of processing how many webhook events were stored, by account and kind."""
    operations: Sequence[Operation] = ()
    """What the admin API offers."""
    pages: tuple[Pages, ...] = ()
    templates: str | None = None
    """The package whose folder `templates` the pages use."""
    links: tuple[Link, ...] = ()
    public_routes: Callable[[web.Application], None] | None = None
    """Puts routes on the public application, below `/webhooks/instagram`."""
    collect: Callable[[], Awaitable[None]] | None = None
    """Brings gauges up to date. Called when somebody asks for `/metrics`."""
    reload: tuple[ReloadRule, ...] = ()
    expiries: tuple[Expiry, ...] = ()
    personal_data: tuple[PersonalData, ...] = ()
    overview: Callable[[], Awaitable[OverviewPart]] | None = None
    """Called whenever somebody looks at the overview. May raise StorageError or OSError."""
    thread_part: Callable[[Conversation], Awaitable[ThreadPart]] | None = None
    """Called whenever somebody looks at the latest messages of a conversation. May raise StorageError."""
    problems: Callable[[], Sequence[str]] | None = None
    """Why the daemon cannot do its job just now; shown by readiness, the overview and `systemctl status`."""
    close: Callable[[web.Application], Awaitable[None]] | None = None
    """Called when the admin listener stops: ends what keeps requests open."""


class Contributions:
    """What all features give to lower ones. The lists are handed out empty, and filled when all features are built."""

    def __init__(self) -> None:
        self.event_types: list[EventType] = []
        self.projections: list[Projection] = []
        self.observers: list[Callable[[Counter[tuple[str, str]]], None]] = []
        """The features' `on_processed`."""
        self.thread_parts: list[Callable[[Conversation], Awaitable[ThreadPart]]] = []

    def gather(self, features: Sequence[Feature]) -> None:
        """Fill the lists."""
        for feature in features:
            self.event_types += feature.event_types
            self.projections += feature.projections
            self.observers += [] if feature.on_processed is None else [feature.on_processed]
            self.thread_parts += [] if feature.thread_part is None else [feature.thread_part]
