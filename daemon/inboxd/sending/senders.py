"""The workers that send, one for each served account."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any

from inboxd.accounts.manager import AccountManager
from inboxd.domain.outbound import OutboundKind
from inboxd.feature import Job, ReloadRule
from inboxd.meta.send_budget import SendLimits, SendReport
from inboxd.sending import delivery_store, worker
from inboxd.sending.actions_api import Sender
from inboxd.sending.channels import ChannelFactory, ChannelTools, DirectMessages
from inboxd.sending.sending_tools import SendingTools
from inboxd.sending.waiting import NOT_CALLABLE_MS
from inboxd.sending.worker import SendingWorker
from inboxd.storage.personal_data import Subject


class Senders:
    """Makes and finds the workers. `factories` make the channel of each kind of message for an account."""

    def __init__(
        self, accounts: AccountManager, tools: SendingTools, channel_tools: ChannelTools, limits: SendLimits
    ) -> None:
        direct: ChannelFactory = partial(DirectMessages, tools=channel_tools)
        self.factories: dict[OutboundKind, ChannelFactory] = {
            OutboundKind.MESSAGE: direct,
            OutboundKind.PRIVATE_REPLY: direct,
        }
        self._accounts = accounts
        self._tools = tools
        self._channel_tools = channel_tools
        self._limits = limits
        self._workers: dict[str, SendingWorker] = {}
        self._senders: dict[str, Sender] = {}

    @property
    def rule(self) -> ReloadRule:
        """Takes new limits."""
        names = ("sending.per_second", "sending.per_hour", "sending.private_replies_per_hour")
        return ReloadRule(names, self._take)

    def workers_of(self, account_id: str) -> Sequence[Job]:
        """The worker of an account that begins to be served."""
        managed = self._accounts.served[account_id]
        channels = {kind: make(managed) for kind, make in self.factories.items()}
        one = self._workers[account_id] = SendingWorker(managed, self._tools, channels, self._limits)
        direct = DirectMessages(managed, self._channel_tools)
        self._senders[account_id] = Sender(managed, one.budget, lambda: direct.client)
        return (Job(one, worker.SCHEDULE),)

    async def account_removed(self, account_id: str) -> None:
        """What waits of an account that is no longer served says so. Raises StorageError."""
        self._workers.pop(account_id, None)
        self._senders.pop(account_id, None)
        now = self._tools.clock.now_ms()
        until = now + NOT_CALLABLE_MS
        await self._tools.database.write(
            lambda connection: delivery_store.not_served(connection, account_id, until, now)
        )

    def forget(self, subject: Subject) -> None:
        """Give up the calls to a participant who was erased, or of an account that was."""
        one = self._workers.get(subject.account_id)
        if one is not None:
            one.calls.give_up(subject.participant_id)

    def notify(self, account_id: str) -> None:
        """The account may have something to send."""
        one = self._workers.get(account_id)
        if one is not None:
            one.wakeup.notify()

    def echoed(self, account_id: str, outbound_ids: Collection[int]) -> None:
        """Echoes came that may explain these unknown messages of the account."""
        one = self._workers.get(account_id)
        if one is not None:
            one.echoed(outbound_ids)

    def sender_of(self, account_id: str) -> Sender | None:
        """How an account sends at once; None when it is not served."""
        return self._senders.get(account_id)

    def report(self, account_id: str) -> SendReport | None:
        """The state of an account's limits; None when it is not served."""
        one = self._workers.get(account_id)
        return None if one is None else one.budget.report()

    def _take(self, new: Mapping[str, Any]) -> None:
        per_second, per_hour, private = (new[name] for name in self.rule.names)
        self._limits = SendLimits(per_second, per_hour, private)
        for one in self._workers.values():
            one.budget.limit(self._limits)
            one.account_changed()  # what waits may be sent sooner
