-- Removing messages. The id of the latest message is given again once that message is gone, so the index of messages must
-- not count it as indexed.
DROP TRIGGER messages_removed;
CREATE TRIGGER messages_removed AFTER DELETE ON messages
BEGIN
    DELETE FROM message_search WHERE rowid = old.id;
    DELETE FROM search_changed WHERE message_id = old.id;
    UPDATE search_progress SET indexed_to = old.id - 1
    WHERE indexed_to >= old.id AND old.id > coalesce((SELECT max(id) FROM messages), 0);
END;

-- What there is of one person beside the conversation.
CREATE INDEX events_by_participant ON events (account_id, participant_id) WHERE participant_id IS NOT NULL;
CREATE INDEX backfill_attempts_by_participant ON backfill_attempts (participant_id);
