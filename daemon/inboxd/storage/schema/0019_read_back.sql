-- Messages that are known from the Conversations API: imported history, and what Meta did not deliver.
ALTER TABLE messages ADD COLUMN source INTEGER DEFAULT 0;
-- 0 webhook, 1 reconciled, 2 history; NULL while only changes of the message are known
UPDATE messages SET source = NULL WHERE direction IS NULL;
ALTER TABLE messages ADD COLUMN listed_at INTEGER; -- ms; its time in the Conversations API, in whole seconds
ALTER TABLE messages ADD COLUMN read_at INTEGER;   -- ms; when the content was read there; NULL when a webhook brought it
ALTER TABLE messages ADD COLUMN read_text TEXT;    -- a text that was read there later than all that webhooks told…
ALTER TABLE messages ADD COLUMN read_text_at INTEGER; -- …and when (ms)

DROP TRIGGER messages_changed;
CREATE TRIGGER messages_changed AFTER UPDATE OF text, edited_text, read_text, deleted_at ON messages
WHEN old.text IS NOT new.text OR old.edited_text IS NOT new.edited_text OR old.read_text IS NOT new.read_text
  OR old.deleted_at IS NOT new.deleted_at
BEGIN
    INSERT INTO search_changed SELECT new.id WHERE NOT EXISTS (SELECT 1 FROM search_changed WHERE message_id = new.id);
END;

-- Imported messages do not count as unread, and the count must not touch the table.
DROP INDEX messages_timeline;
CREATE INDEX messages_timeline ON messages (conversation_id, timeline_at DESC, id DESC, direction, deleted_at, source)
    WHERE timeline_at IS NOT NULL;

-- What no webhook has confirmed, to be found when a webhook brings it after all.
CREATE INDEX messages_unconfirmed ON messages (conversation_id, listed_at) WHERE source > 0 AND direction IS NOT NULL;

DROP VIEW v1_messages;
CREATE VIEW v1_messages AS
SELECT
    CAST(m.id AS TEXT)                       AS id,
    CAST(m.conversation_id AS TEXT)          AS conversation_id,
    m.mid                                    AS platform_message_id,
    CASE WHEN m.sender_id = c.participant_id AND c.participant_id <> c.account_id THEN 'customer' ELSE 'user' END
                                             AS sender_type,
    m.sender_id                              AS sender_platform_id,
    CASE WHEN m.deleted_at IS NOT NULL THEN 'deleted' ELSE coalesce(m.type, 'text') END AS message_type,
    coalesce(m.read_text, m.edited_text, m.text)         AS content,
    (SELECT a.value ->> 'url' FROM json_each(m.attachments) AS a WHERE a.value ->> 'url' IS NOT NULL LIMIT 1)
                                             AS media_url,
    (SELECT a.value ->> 'type' FROM json_each(m.attachments) AS a WHERE a.value ->> 'url' IS NOT NULL LIMIT 1)
                                             AS media_type,
    coalesce(m.attachments, '[]')            AS attachments,
    CASE WHEN m.sender_id = c.participant_id AND c.participant_id <> c.account_id
         THEN m.timeline_at <= max(coalesce(c.answered_at, 0), coalesce(c.read_at, 0))
         ELSE m.timeline_at <= coalesce(c.seen_at, 0) END AS is_read,
    strftime('%Y-%m-%dT%H:%M:%fZ', m.timeline_at / 1000.0, 'unixepoch') AS sent_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', coalesce(m.read_text_at, m.edited_at) / 1000.0, 'unixepoch') AS edited_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', m.deleted_at / 1000.0, 'unixepoch')  AS deleted_at,
    coalesce(m.reactions, '[]')              AS reactions,
    coalesce(m.details, '{}')                AS metadata,
    strftime('%Y-%m-%dT%H:%M:%fZ', m.created_at / 1000.0, 'unixepoch')  AS created_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', m.updated_at / 1000.0, 'unixepoch')  AS updated_at,
    CASE coalesce(m.source, 0) WHEN 1 THEN 'reconciled' WHEN 2 THEN 'history' ELSE 'webhook' END AS source,
    CASE WHEN m.direction IS NULL AND m.listed_at IS NOT NULL THEN 'unavailable' END AS detail
FROM messages AS m
JOIN conversations AS c ON c.id = m.conversation_id
WHERE m.timeline_at IS NOT NULL;
