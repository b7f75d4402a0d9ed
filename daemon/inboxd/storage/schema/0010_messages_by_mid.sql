-- Some reads and edits come without sender and recipient: the mid alone finds the message. So the index that messages are
-- looked up by begins with the mid. An index more would cost every message a write more, and the one of the table's own
-- constraint cannot be dropped: the table is built anew.
DROP VIEW v1_messages;

CREATE TABLE messages_by_mid_first (
    id                     INTEGER PRIMARY KEY,
    conversation_id        INTEGER NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    mid                    TEXT    NOT NULL,
    mid_key                INTEGER NOT NULL,        -- 64 bits of a hash of mid: mids are long, and the index is hot
    sender_id              TEXT,
    direction              INTEGER,                 -- 0 inbound, 1 outbound; NULL until the message itself arrives
    sent_at                INTEGER,                 -- ms; NULL until the message itself arrives
    timeline_at            INTEGER,                 -- ms; its place in the conversation; NULL while it is not shown
    noticed_at             INTEGER NOT NULL,        -- ms; the earliest time of anything known about it
    type                   TEXT,
    text                   TEXT,
    attachments            TEXT,                    -- JSON array
    details                TEXT,                    -- JSON object: reply_to, quick_reply, referral, postback…
    standby                INTEGER NOT NULL DEFAULT 0,
    edit_number            INTEGER,
    edited_at              INTEGER,
    edited_text            TEXT,
    deleted_at             INTEGER,
    seen_by_account_at     INTEGER,
    seen_by_participant_at INTEGER,
    reactions              TEXT,                    -- JSON array, one element per person
    delivery_id            INTEGER,                 -- the delivery that first mentioned it
    created_at             INTEGER NOT NULL,
    updated_at             INTEGER NOT NULL
) STRICT;

INSERT INTO messages_by_mid_first (
    id, conversation_id, mid, mid_key, sender_id, direction, sent_at, timeline_at, noticed_at, type, text, attachments,
    details, standby, edit_number, edited_at, edited_text, deleted_at, seen_by_account_at, seen_by_participant_at, reactions,
    delivery_id, created_at, updated_at
)
SELECT
    id, conversation_id, mid, mid_key, sender_id, direction, sent_at, timeline_at, noticed_at, type, text, attachments,
    details, standby, edit_number, edited_at, edited_text, deleted_at, seen_by_account_at, seen_by_participant_at, reactions,
    delivery_id, created_at, updated_at
FROM messages;

DROP TABLE messages;
ALTER TABLE messages_by_mid_first RENAME TO messages;

CREATE UNIQUE INDEX messages_by_mid ON messages (mid_key, conversation_id);

-- Covers paging, last-message time, last answer and the unread count without touching the table.
CREATE INDEX messages_timeline ON messages (conversation_id, timeline_at DESC, id DESC, direction, deleted_at)
    WHERE timeline_at IS NOT NULL;

-- An upsert takes its own conflict rule into the triggers that it fires, so this one must not rely on OR IGNORE.
CREATE TRIGGER messages_changed AFTER UPDATE OF text, edited_text, deleted_at ON messages
WHEN old.text IS NOT new.text OR old.edited_text IS NOT new.edited_text OR old.deleted_at IS NOT new.deleted_at
BEGIN
    INSERT INTO search_changed SELECT new.id WHERE NOT EXISTS (SELECT 1 FROM search_changed WHERE message_id = new.id);
END;

CREATE TRIGGER messages_removed AFTER DELETE ON messages
BEGIN
    DELETE FROM message_search WHERE rowid = old.id;
    DELETE FROM search_changed WHERE message_id = old.id;
    UPDATE search_progress SET indexed_to = old.id - 1
    WHERE indexed_to >= old.id AND old.id > coalesce((SELECT max(id) FROM messages), 0);
END;

CREATE VIEW v1_messages AS
SELECT
    CAST(m.id AS TEXT)                       AS id,
    CAST(m.conversation_id AS TEXT)          AS conversation_id,
    m.mid                                    AS platform_message_id,
    CASE WHEN m.sender_id = c.participant_id AND c.participant_id <> c.account_id THEN 'customer' ELSE 'user' END
                                             AS sender_type,
    m.sender_id                              AS sender_platform_id,
    CASE WHEN m.deleted_at IS NOT NULL THEN 'deleted' ELSE coalesce(m.type, 'text') END AS message_type,
    coalesce(m.edited_text, m.text)          AS content,
    (SELECT a.value ->> 'url' FROM json_each(m.attachments) AS a WHERE a.value ->> 'url' IS NOT NULL LIMIT 1)
                                             AS media_url,
    (SELECT a.value ->> 'type' FROM json_each(m.attachments) AS a WHERE a.value ->> 'url' IS NOT NULL LIMIT 1)
                                             AS media_type,
    coalesce(m.attachments, '[]')            AS attachments,
    CASE WHEN m.sender_id = c.participant_id AND c.participant_id <> c.account_id
         THEN m.timeline_at <= max(coalesce(c.answered_at, 0), coalesce(c.read_at, 0))
         ELSE m.timeline_at <= coalesce(c.seen_at, 0) END AS is_read,
    strftime('%Y-%m-%dT%H:%M:%fZ', m.timeline_at / 1000.0, 'unixepoch') AS sent_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', m.edited_at / 1000.0, 'unixepoch')   AS edited_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', m.deleted_at / 1000.0, 'unixepoch')  AS deleted_at,
    coalesce(m.reactions, '[]')              AS reactions,
    coalesce(m.details, '{}')                AS metadata,
    strftime('%Y-%m-%dT%H:%M:%fZ', m.created_at / 1000.0, 'unixepoch')  AS created_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', m.updated_at / 1000.0, 'unixepoch')  AS updated_at
FROM messages AS m
JOIN conversations AS c ON c.id = m.conversation_id
WHERE m.timeline_at IS NOT NULL;

-- Such changes whose message has not arrived yet.
CREATE TABLE early_changes (
    account_id TEXT    NOT NULL,
    mid_key    INTEGER NOT NULL,
    mid        TEXT    NOT NULL,
    change     TEXT    NOT NULL,                    -- JSON
    created_at INTEGER NOT NULL,                    -- ms
    PRIMARY KEY (mid_key, account_id, change)
) STRICT, WITHOUT ROWID;

CREATE INDEX early_changes_by_age ON early_changes (created_at);
