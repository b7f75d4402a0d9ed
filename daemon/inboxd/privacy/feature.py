"""Builds this feature: people are erased and exported, and what is old is removed, in all features below."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inboxd.accounts.manager import AccountManager
from inboxd.events.log import EventLog
from inboxd.feature import Core, Feature, Job, ReloadRule
from inboxd.privacy import deletion_worker, personal_data_store
from inboxd.privacy.account_eraser import AccountEraser
from inboxd.privacy.api import DeletionsApi, ParticipantPrivacyApi
from inboxd.privacy.app_users import AppUsers
from inboxd.privacy.callbacks import Callbacks
from inboxd.privacy.deletion_store import DeletionStore
from inboxd.privacy.deletion_worker import DeletionWorker
from inboxd.privacy.participant_eraser import ERASED, ParticipantEraser
from inboxd.privacy.retention_worker import RetentionWorker
from inboxd.runs.moments_store import MomentStore
from inboxd.runtime.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is configured of this feature."""

    app_secrets: Sequence[Secret]
    base_url: str | None


def build(
    core: Core,
    options: Options,
    *,
    features: Sequence[Feature],
    accounts: AccountManager,
    event_log: EventLog,
    newest_message_at: Callable[[], Awaitable[int | None]],
    busy: Callable[[], bool],
) -> Feature:
    """Build the feature. `features` are those whose data is erased, exported and expired.

    `newest_message_at` is the time of the newest message by Meta's clock (ms). `busy`: senders wait for the disk.
    """
    database, clock = core.database, core.clock
    declared = [
        *(one for feature in features for one in feature.personal_data),
        *personal_data_store.personal_data(),
    ]
    deletions = DeletionStore(database, declared)
    expiries = [*(one for feature in features for one in feature.expiries), *personal_data_store.expiries(deletions)]
    users = AppUsers(accounts)
    deletion = DeletionWorker(
        AccountEraser(database, declared, clock), deletions, accounts.aliases, clock, on_erased=users.erased
    )
    retention = RetentionWorker(
        database, expiries, MomentStore(database), clock, newest_message_at=newest_message_at, busy=busy
    )
    callbacks = Callbacks(
        options.app_secrets,
        deletions,
        clock,
        find=users.account_of,
        others=users.others,
        deauthorize=users.deauthorize,
        on_deletion=deletion.wakeup.notify,
        base_url=options.base_url,
    )
    deletions_api = DeletionsApi(deletions, clock, stop_calls=users.stop_calls, on_deletion=deletion.wakeup.notify)

    def use_app_secrets(new: Mapping[str, Any]) -> None:
        callbacks.app_secrets = new["app_secrets"]

    return Feature(
        name="privacy",
        event_types=(ERASED,),
        workers=(Job(deletion, deletion_worker.SCHEDULE), Job(retention)),
        operations=(
            *ParticipantPrivacyApi(ParticipantEraser(database, declared, clock, event_log)).operations(),
            *deletions_api.operations(),
        ),
        public_routes=callbacks.add_routes,
        reload=(ReloadRule(("app_secrets",), use_app_secrets),),
        personal_data=personal_data_store.personal_data(),
    )
