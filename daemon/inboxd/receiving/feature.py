"""Builds this feature: webhooks are verified, stored and acknowledged, and stored deliveries can be looked at."""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from inboxd.feature import Core, Feature, Job, Link, ReloadRule, Setting
from inboxd.http.bodies import BodyBudget
from inboxd.meta.signature import SignatureVerifier
from inboxd.receiving import personal_data_store, processing_monitor
from inboxd.receiving.api import DeliveriesApi, WebhookEventsApi
from inboxd.receiving.metrics import ReceivingMetrics
from inboxd.receiving.overview import ReceivingOverview
from inboxd.receiving.pages import DeliveryPages
from inboxd.receiving.processing_monitor import ProcessingMonitor
from inboxd.receiving.store import Inbox
from inboxd.receiving.webhooks import Webhooks
from inboxd.runtime.secret import Secret


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is configured of this feature. Days of 0 mean for ever."""

    max_waiting: int
    app_secrets: Sequence[Secret]
    verify_token: Secret
    body_budget: BodyBudget
    keep_deliveries_days: int
    keep_failed_days: int
    keep_webhook_events_days: int


@dataclass(frozen=True, kw_only=True)
class Receiving(Feature):
    """This feature, and what the features above it use."""

    inbox: Inbox
    monitor: ProcessingMonitor
    via: str
    """What this daemon calls itself in the header Via, when it hands deliveries on."""


async def build(core: Core, options: Options) -> Receiving:
    """Build the feature. Raises StorageError."""
    metrics = ReceivingMetrics(core.metrics.registry)
    inbox = Inbox(core.database, core.clock, max_waiting=options.max_waiting)
    await inbox.recall()
    monitor = ProcessingMonitor(core.database, core.clock, metrics)
    verifier, via = _verifier(options.app_secrets), f"inboxd-{secrets.token_hex(8)}"
    webhooks = Webhooks(inbox, verifier, options.verify_token, metrics, options.body_budget, via)
    overview = ReceivingOverview(inbox, core.clock)
    deliveries = Setting("storage.keep_deliveries_days", options.keep_deliveries_days)
    failed = Setting("storage.keep_failed_days", options.keep_failed_days)
    events = Setting("storage.keep_webhook_events_days", options.keep_webhook_events_days)
    return Receiving(
        name="receiving",
        inbox=inbox,
        monitor=monitor,
        via=via,
        workers=(Job(monitor, processing_monitor.SCHEDULE),),
        operations=(*DeliveriesApi(inbox).operations(), *WebhookEventsApi(core.database.read).operations()),
        pages=(DeliveryPages(inbox),),
        templates="inboxd.receiving",
        links=(Link("/deliveries", "Deliveries", 30),),
        public_routes=webhooks.add_routes,
        collect=partial(metrics.collect, inbox),
        reload=(deliveries.rule, failed.rule, events.rule, *_reload_rules(inbox, webhooks)),
        expiries=personal_data_store.expiries(core.database, deliveries=deliveries, failed=failed, events=events),
        personal_data=personal_data_store.personal_data(core.database),
        overview=overview.read,
        problems=monitor.problems,
    )


def _reload_rules(inbox: Inbox, webhooks: Webhooks) -> tuple[ReloadRule, ...]:
    def use_max_waiting(new: Mapping[str, Any]) -> None:
        inbox.max_waiting = new["public.max_waiting"]

    def use_app_secrets(new: Mapping[str, Any]) -> None:
        webhooks.verifier = _verifier(new["app_secrets"])

    def use_verify_token(new: Mapping[str, Any]) -> None:
        webhooks.verify_token = new["verify_token"]

    return (
        ReloadRule(("public.max_waiting",), use_max_waiting),
        ReloadRule(("app_secrets",), use_app_secrets),
        ReloadRule(("verify_token",), use_verify_token),
    )


def _verifier(app_secrets: Sequence[Secret]) -> SignatureVerifier:
    return SignatureVerifier([secret.reveal() for secret in app_secrets])
