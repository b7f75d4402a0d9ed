"""Subscribes an account to webhooks: to messages always, to comments and mentions where they are wanted.

Meta replaces the whole list with each call, and one field that it does not accept voids the call. So what is there is
read first and kept, comments are asked for together, and after a refusal one by one. Whoever reads and then changes a
subscription holds `ManagedAccount.subscribing` all the while, and looks only then at what is wanted.
"""

from collections.abc import Collection
from typing import Final

from inboxd.accounts.managed_account import ManagedAccount
from inboxd.accounts.manager import AccountManager
from inboxd.domain.account import DAY_MS, Account, LoginType
from inboxd.domain.budget import Priority
from inboxd.domain.retry import FailureAction
from inboxd.meta.account_graph import WEBHOOK_FIELDS
from inboxd.meta.graph_errors import GraphError
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock

COMMENT_FIELDS: Final = ("comments", "live_comments", "mentions")
"""The fields of comments and mentions. Of both login types the Instagram account has them, not the Page."""
NOT_THERE: Final = "Meta took the call, and the field is not in the list afterwards"
_PASSING: Final = frozenset({FailureAction.NEEDS_LOGIN, FailureAction.WAIT_FOR_BUDGET})


def lacks_comments(account: Account, now: int) -> bool:
    """Whether comments are wanted, and a field of theirs is neither subscribed nor was refused in the last day."""
    missing = missing_fields(account)
    refused_lately = account.refused_fields_at is not None and now - account.refused_fields_at < DAY_MS
    return bool(missing) and not (refused_lately and missing <= account.refused_fields.keys())


def with_messages(account: Account, listed: Collection[str]) -> set[str]:
    """The fields that are needed for messages, and those that Meta `listed`: subscribing replaces them all."""
    kept = {one for one in listed if one.isascii() and one.replace("_", "").isalnum()}
    return {*WEBHOOK_FIELDS[account.login_type], *kept}


def missing_fields(account: Account) -> set[str]:
    """The fields of comments that are wanted and not subscribed."""
    return set(COMMENT_FIELDS) - set(account.subscribed_fields or ()) if account.wants_comments else set()


async def read_fields(managed: ManagedAccount, priority: Priority) -> tuple[str, ...]:
    """The fields to which the account is subscribed: of a Page, with those of comments of its Instagram account.

    Raises GraphError.
    """
    graph, account = managed.graph, managed.account
    fields = await graph.subscribed_fields(priority)
    if account.login_type is LoginType.INSTAGRAM or not account.wants_comments:
        return fields
    try:
        more = await graph.subscribed_fields(priority, node=account.id)
    except GraphError as error:
        if error.action in _PASSING or error.of_host:
            raise
        more = ()
    return tuple(sorted({*fields, *(set(more) & set(COMMENT_FIELDS))}))


async def subscribe_comments(
    accounts: AccountManager, managed: ManagedAccount, clock: Clock, priority: Priority
) -> tuple[str, ...]:
    """Ask for comments and mentions as well. Returns the fields to which the account is subscribed afterwards.

    Call it with `ManagedAccount.subscribing` held. What Meta refuses is stored with its reason.
    Raises GraphError, but not for a refusal.
    """
    graph, account = managed.graph, managed.account
    node = "me" if account.login_type is LoginType.INSTAGRAM else account.id
    before = set(await _fields_at(managed, node, priority))
    kept = set(before)
    refused: dict[str, str] = {}
    wanted = sorted(set(COMMENT_FIELDS) - before)
    try:
        if wanted:
            await graph.subscribe(priority, fields={*kept, *wanted}, node=node)
    except GraphError as error:
        _raise_if_passing(error)
        for name in wanted:
            try:
                await graph.subscribe(priority, fields={*kept, name}, node=node)
                kept.add(name)
            except GraphError as refusal:
                _raise_if_passing(refusal)
                refused[name] = str(refusal)
        await _restore(managed, node, kept, priority)
    after = set(await _fields_at(managed, node, priority))
    refused |= {name: NOT_THERE for name in wanted if name not in after and name not in refused}
    if node != "me":
        after = {*await graph.subscribed_fields(priority), *(after & set(COMMENT_FIELDS))}
    fields = tuple(sorted(after))
    now = clock.now_ms()
    if refused != account.refused_fields and refused:
        logs.get("subscriptions").warning("fields_refused", account_id=account.id, fields=refused)
    await accounts.update(
        managed,
        subscribed_fields=fields,
        subscription_checked_at=now,
        refused_fields=refused,
        refused_fields_at=now if refused else None,
    )
    return fields


async def unsubscribe_comments(
    accounts: AccountManager, managed: ManagedAccount, clock: Clock, priority: Priority
) -> tuple[list[str], list[str]]:
    """Ask for comments and mentions no more. What else is subscribed stays: Meta keeps a list for each app.

    Call it with `ManagedAccount.subscribing` held. Returns the fields that were there and are not any more, and
    those that Meta lists afterwards all the same. Raises GraphError, and StorageError.
    """
    graph, account = managed.graph, managed.account
    node = "me" if account.login_type is LoginType.INSTAGRAM else account.id
    before = set(await graph.subscribed_fields(priority, node=node))
    kept = before - set(COMMENT_FIELDS)
    if kept != before:
        try:
            if node == "me":
                await graph.subscribe(priority, fields=with_messages(account, kept), node=node)
            elif kept:
                await graph.subscribe(priority, fields=kept, node=node)
            else:  # an empty list is none that Meta takes
                await graph.request("DELETE", f"{node}/subscribed_apps", {}, priority)
        except GraphError as error:
            if not error.of_host and error.action not in _PASSING:
                await _restore(managed, node, before, priority)
            raise
    after = set(await graph.subscribed_fields(priority, node=node))
    fields = after if node == "me" else set(await graph.subscribed_fields(priority)) | (after & set(COMMENT_FIELDS))
    await accounts.update(managed, subscribed_fields=tuple(sorted(fields)), subscription_checked_at=clock.now_ms())
    return sorted(before - after - kept), sorted(after & set(COMMENT_FIELDS))


async def _fields_at(managed: ManagedAccount, node: str, priority: Priority) -> tuple[str, ...]:
    try:
        return await managed.graph.subscribed_fields(priority, node=node)
    except GraphError as error:
        if node == "me":
            raise
        _raise_if_passing(error)
        return ()


async def _restore(managed: ManagedAccount, node: str, kept: set[str], priority: Priority) -> None:
    """Subscribe again to what was there, if a refused call took it away."""
    if kept - set(await _fields_at(managed, node, priority)):
        await managed.graph.subscribe(priority, fields=kept, node=node)


def _raise_if_passing(error: GraphError) -> None:
    """Raise `error` unless it is a refusal of what was asked for."""
    passes = error.action is FailureAction.RETRY_LATER and error.code is not None and not error.row.ambiguous
    if passes or error.action in _PASSING or error.of_host:
        raise error
