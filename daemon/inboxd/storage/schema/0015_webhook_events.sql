-- What Meta calls an event is a webhook event here: `events` is for what inboxd itself tells others.
ALTER TABLE events RENAME TO webhook_events;
DROP INDEX events_by_kind;
DROP INDEX events_by_participant;
CREATE INDEX webhook_events_by_kind ON webhook_events (kind, id);
CREATE INDEX webhook_events_by_participant ON webhook_events (account_id, participant_id)
    WHERE participant_id IS NOT NULL;

-- The HMAC-SHA256 of X-Hub-Signature-256, by which a delivery can be handed on as Meta signed it. NULL: it came before
-- this was kept.
ALTER TABLE deliveries ADD COLUMN signature BLOB;

-- For those who ask for what has changed since a time, and for the conversation of one participant. The first has
-- everything that lists filter by; the second is written once for each conversation.
CREATE INDEX conversations_by_update ON conversations (updated_at, id, account_id, status, unread_count);
CREATE INDEX conversations_by_participant ON conversations (participant_id);
