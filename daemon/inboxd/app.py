"""The composition root: builds the features in order, starts what they give, and stops it in the reverse order."""

import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from inboxd import listeners, options
from inboxd.accounts import feature as accounts
from inboxd.comments import feature as comments
from inboxd.config.schema import Settings
from inboxd.config.secrets import Secrets
from inboxd.conversations import feature as conversations
from inboxd.conversations import pacing, personal_data_store
from inboxd.conversations import store as conversation_store
from inboxd.core import open_core
from inboxd.daemon import Daemon
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
from inboxd.reconciliation import store as checks
from inboxd.reload import Reloader
from inboxd.runs.backfill import feature as backfill
from inboxd.runs.history import feature as history
from inboxd.runtime.clock import Clock
from inboxd.sending import feature as sending
from inboxd.sending.uploads import feature as uploads

NewFeature = Callable[[Core], Feature]


@asynccontextmanager
async def run_daemon(
    settings: Settings,
    secrets: Secrets,
    database_path: Path,
    *,
    on_give_up: Callable[[], None],
    clock: Clock | None = None,
    process: maintenance.Process | None = None,
    public_socket: socket.socket | None = None,
    more: Sequence[NewFeature] = (),
) -> AsyncIterator[Daemon]:
    """The daemon, from its first to its last moment. `on_give_up` is called when it can no longer do its job.

    `public_socket` is a listening socket to use instead of one of our own. `more` are built above `runs`.

    It stops from the top down: first nobody new is let in and requests in flight are answered, then the workers end,
    then the connections to Meta close, then the writer commits what it holds and the file is closed.
    Raises InboxdError when a part cannot start; those already started are stopped.
    """
    async with AsyncExitStack() as stack:
        core = await open_core(stack, database_path, clock or Clock(), on_give_up=on_give_up)
        features = await build_features(core, stack, settings, secrets, process or maintenance.Process(), more)
        await stack.enter_async_context(core.supervisor)
        for feature in features:
            if feature.start is not None:
                await feature.start(features)
        for job in (job for feature in features for job in feature.workers):
            core.supervisor.start(*job)
        tokens = options.access_tokens(secrets.admin_token, secrets.named_tokens)
        urls = await listeners.listen(stack, core, features, options.listener_options(settings), tokens, public_socket)
        rules = listeners.reload_rules(tokens, options.access_tokens)
        rules += [rule for feature in features for rule in feature.reload]
        yield Daemon(urls, core.supervisor, Reloader(settings, secrets, rules))


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
    imports = history.build(core, accounts=manager, events=told, healed_since=partial(checks.healed_since, read))
    published = nats.build(core, stack, options.nats_options(settings, secrets), events=told)
    healing = reconciliation.build(core, options.reconciliation_options(settings), accounts=manager, events=told)
    pushing = options.forwarding_options(settings)
    pushed = await forwarding.build(
        core, stack, pushing, accounts=manager, events=told, consumers=(published,), via=received.via
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
