"""The list of the features: builds each from what it needs, the lowest first."""

from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial

from inboxd import options
from inboxd.accounts import feature as accounts
from inboxd.comments import feature as comments
from inboxd.config.schema import Settings
from inboxd.config.secrets import Secrets
from inboxd.conversations import feature as conversations
from inboxd.conversations import pacing, personal_data_store
from inboxd.conversations import store as conversation_store
from inboxd.dashboard import feature as dashboard
from inboxd.events import feature as events
from inboxd.feature import Contributions, Core, Feature
from inboxd.forwarding import feature as forwarding
from inboxd.forwarding.nats import feature as nats
from inboxd.maintenance import feature as maintenance
from inboxd.maintenance import statistics_store
from inboxd.privacy import feature as privacy
from inboxd.profiles import feature as profiles
from inboxd.receiving import feature as receiving
from inboxd.reconciliation import completeness_store
from inboxd.reconciliation import feature as reconciliation
from inboxd.reconciliation.store import ReconciliationStore
from inboxd.runs.backfill import feature as backfill
from inboxd.runs.history import feature as history
from inboxd.sending import feature as sending
from inboxd.sending.uploads import feature as uploads

NewFeature = Callable[[Core], Feature]
"""A feature that is not in the list, such as the example of the documents."""


async def build_features(
    core: Core,
    stack: AsyncExitStack,
    settings: Settings,
    secrets: Secrets,
    process: maintenance.Process,
    more: Sequence[NewFeature] = (),
) -> tuple[Feature, ...]:
    """All features, the lowest first; `stack` closes what they open. A new one is a line here. Raises InboxdError."""
    read, path = core.database.read, core.database.path
    given = Contributions()
    received = await receiving.build(core, options.receiving_options(settings, secrets))
    told = events.build(core, options.event_options(settings), types=given.event_types)
    served = await accounts.build(
        core,
        stack,
        options.account_options(settings, secrets),
        event_log=told.log,
        statistics=partial(statistics_store.of_account, read),
        last_message_at=partial(conversation_store.last_message_at, read),
        remark=partial(completeness_store.remark, read, core.clock),
    )
    manager = served.manager
    people = await profiles.build(
        core,
        stack,
        options.profile_options(settings, path),
        accounts=manager,
        event_log=told.log,
        on_profile=conversation_store.participant_changed,
    )
    inbox = conversations.build(
        core,
        options.conversation_options(settings),
        inbox=received.inbox,
        accounts=manager,
        event_log=told.log,
        profiles=people,
        given=given,
    )
    files = uploads.build(core, options.upload_options(settings, path))
    answers = options.sending_options(settings)
    outbox = sending.build(core, answers, accounts=manager, event_log=told.log, uploads=files.service)
    keep = options.comment_options(settings)
    commented = comments.build(core, keep, accounts=manager, events=told, sending=outbox, inbox=received.inbox)
    runs = backfill.build(
        core, options.backfill_options(settings), accounts=manager, events=told, sync_of=people.syncs.of
    )
    imports = history.build(core, accounts=manager, events=told, reconciled=ReconciliationStore(core.database))
    published = nats.build(core, stack, options.nats_options(settings, secrets), events=told)
    healing = reconciliation.build(core, options.reconciliation_options(settings), accounts=manager, events=told)
    pushing = options.forwarding_options(settings)
    pushed = await forwarding.build(
        core,
        stack,
        pushing,
        inbox=received.inbox,
        accounts=manager,
        events=told,
        consumers=(published,),
        via=received.via,
    )
    below = [received, told, served, people, inbox, outbox, files, commented, runs, imports, healing, pushed, published]
    below += [build(core) for build in more]
    erasing = privacy.build(
        core,
        options.privacy_options(settings, secrets),
        features=below,
        accounts=manager,
        event_log=told.log,
        newest_message_at=partial(personal_data_store.newest_message_at, read),
        busy=lambda: received.inbox.pressure > pacing.RUSH,
    )
    watching = maintenance.build(
        core,
        options.maintenance_options(settings, path),
        process,
        features=(*below, erasing),
        accounts=manager,
        receiving=received,
        profiles=people.store,
    )
    pages = dashboard.build(features=(*below, erasing, watching), problems=lambda: watching.health.problems)
    features = (*below, erasing, watching, pages)
    given.gather(features)
    return features
