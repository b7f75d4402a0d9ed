"""The types of events of the outbox."""

from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from inboxd.conversations.event_data import EventParticipant
from inboxd.conversations.examples import CONVERSATION, CONVERSATION_RESOURCE, MESSAGE
from inboxd.conversations.resources import ConversationResource
from inboxd.conversations.store import of_snapshot
from inboxd.domain.event import EventType, StoredEvent
from inboxd.domain.outbound import OutboundState, PartState, ReasonCode
from inboxd.http.resource import Resource
from inboxd.runtime.clock import iso_utc
from inboxd.sending.event_recording import HUMAN_REPLIED, KeptHumanReply, KeptOutbound, event_type
from inboxd.sending.resources import OutboundPartResource, OutboundResource


class OutboundEventData(Resource, frozen=True, kw_only=True):
    """An outbound message, as it was after the event.

    The last three members are absent in a log of ids only, and while it belongs to no participant: of a public reply to
    a comment, and of a private one before its author is known.
    """

    outbound_id: str
    conversation_id: str | None
    participant_platform_id: str | None
    state: str
    reason_code: str | None
    outbound: OutboundResource | UnsetType = UNSET
    conversation: ConversationResource | UnsetType = UNSET
    participant: EventParticipant | UnsetType = UNSET


class HumanRepliedEventData(Resource, frozen=True, kw_only=True):
    """An answer that was not sent through inboxd. In a log of ids only, `conversation` and `participant` are absent."""

    conversation_id: str | None
    participant_platform_id: str
    message_id: str | None
    platform_message_id: str
    automation_paused_until: str
    conversation: ConversationResource | UnsetType = UNSET
    participant: EventParticipant | UnsetType = UNSET


_load_outbound: Final = msgspec.json.Decoder(KeptOutbound).decode
_load_reply: Final = msgspec.json.Decoder(KeptHumanReply).decode
_SUMMARIES: Final = {
    OutboundState.QUEUED: "A message was accepted, or is to be sent again: it is in the outbox.",
    OutboundState.SENT: "Meta took all parts of a message.",
    OutboundState.UNKNOWN: "Meta's answer was not seen. It is found out whether the message was sent.",
    OutboundState.FAILED: "A message was not sent; `reason` says why.",
    OutboundState.DELIVERED: "Meta's webhooks showed all parts of a message in the conversation.",
    OutboundState.READ: "The participant has seen a message that was sent through inboxd.",
    OutboundState.CANCELED: "Somebody canceled a message. Parts that were sent before stay sent.",
}
_EXAMPLE_PART: Final = OutboundPartResource(
    state=PartState.SENT,
    platform_message_id="aWdfZAG1faXRlbToy",
    message_id="346",
    tag=None,
    attempts=1,
    attempted_at="2026-01-01T00:05:00.020Z",
    sent_at="2026-01-01T00:05:00.470Z",
    delivered_at=None,
)
_UNSENT: Final = {"platform_message_id": None, "message_id": None, "sent_at": None}


def event_types(accounts: Collection[str]) -> tuple[EventType, ...]:
    """The types of events of the outbox. `accounts` are the ids of the served accounts."""
    types = [
        EventType(
            name=event_type(state),
            summary=summary,
            data=OutboundEventData,
            example=_example(state),
            render=_renderer(_outbound, accounts),
        )
        for state, summary in _SUMMARIES.items()
    ]
    replied = EventType(
        name=HUMAN_REPLIED,
        summary="The account answered from the app, or through another system. Bots should be silent for a time.",
        data=HumanRepliedEventData,
        example=HumanRepliedEventData(
            conversation_id=str(CONVERSATION.id),
            participant_platform_id=CONVERSATION.key.participant_id,
            message_id="346",
            platform_message_id=MESSAGE.mid,
            automation_paused_until="2026-01-01T01:05:00.000Z",
            conversation=CONVERSATION_RESOURCE,
            participant=EventParticipant.of(CONVERSATION),
        ),
        render=_renderer(_human_reply, accounts),
    )
    return (*types, replied)


def _renderer(
    render: Callable[[Collection[str], StoredEvent], Resource], accounts: Collection[str]
) -> Callable[[StoredEvent], Resource]:
    return partial(render, accounts)


def _outbound(accounts: Collection[str], event: StoredEvent) -> OutboundEventData:
    kept = _load_outbound(event.data)
    one = kept.outbound
    return OutboundEventData(
        outbound_id=event.subject or "",
        conversation_id=None if event.conversation_id is None else str(event.conversation_id),
        participant_platform_id=event.participant_id,
        state=kept.state if one is None else one.state,
        reason_code=kept.reason_code if one is None else one.reason_code,
        outbound=UNSET if one is None else OutboundResource.of(one),
        **_conversation_members(kept.conversation, accounts, event.recorded_at),
    )


def _human_reply(accounts: Collection[str], event: StoredEvent) -> HumanRepliedEventData:
    kept = _load_reply(event.data)
    return HumanRepliedEventData(
        conversation_id=None if event.conversation_id is None else str(event.conversation_id),
        participant_platform_id=event.participant_id or "",
        message_id=None if event.message_id is None else str(event.message_id),
        platform_message_id=kept.mid,
        automation_paused_until=iso_utc(kept.paused_until),
        **_conversation_members(kept.conversation, accounts, event.recorded_at),
    )


def _conversation_members(row: Any, accounts: Collection[str], at: int) -> dict[str, Any]:  # noqa: ANN401 - a snapshot
    if row is None:
        return {}
    conversation = of_snapshot(row)
    return {
        "conversation": ConversationResource.of(conversation, accounts, at=at),
        "participant": EventParticipant.of(conversation),
    }


def _example(state: OutboundState) -> OutboundEventData:
    """The event of an outbound message in `state`."""
    part: OutboundPartResource = _EXAMPLE_PART
    members: dict[str, Any] = {}
    match state:
        case OutboundState.QUEUED | OutboundState.CANCELED:
            part = _part(PartState(state.value), attempts=0, attempted_at=None, **_UNSENT)
        case OutboundState.UNKNOWN:
            part = _part(PartState.UNKNOWN, **_UNSENT)
            members = {
                "reason_code": ReasonCode.ANSWER_NOT_SEEN,
                "reason": "Meta's answer was not seen.",
                "waits_until": "2026-01-01T00:06:00.000Z",
            }
        case OutboundState.FAILED:
            part = _part(PartState.FAILED, **_UNSENT)
            members = {
                "reason_code": ReasonCode.WINDOW_CLOSED,
                "reason": "Meta says that the reply window is closed.",
                "meta_code": 10,
                "meta_subcode": 2534022,
            }
        case OutboundState.DELIVERED | OutboundState.READ:
            part = _part(PartState.SENT, delivered_at="2026-01-01T00:05:01.900Z")
        case _:
            pass
    settled = state not in {OutboundState.QUEUED, OutboundState.UNKNOWN}
    outbound = msgspec.structs.replace(
        OutboundResource.example(),
        conversation_id=str(CONVERSATION.id),
        participant_platform_id=CONVERSATION.key.participant_id,
        state=state,
        reply_to=None,
        text="Yes, and the blue one too.",
        expires_at="2026-01-02T00:00:00.000Z",
        parts=[part],
        created_at="2026-01-01T00:05:00.000Z",
        updated_at="2026-01-01T00:05:01.900Z",
        settled_at="2026-01-01T00:05:00.470Z" if settled else None,
        **members,
    )
    return OutboundEventData(
        outbound_id=outbound.id,
        conversation_id=outbound.conversation_id,
        participant_platform_id=outbound.participant_platform_id,
        state=state,
        reason_code=outbound.reason_code,
        outbound=outbound,
        conversation=CONVERSATION_RESOURCE,
        participant=EventParticipant.of(CONVERSATION),
    )


def _part(state: PartState, **members: Any) -> OutboundPartResource:  # noqa: ANN401 - members of the resource
    return msgspec.structs.replace(_EXAMPLE_PART, state=state, **members)
