-- The outbox: what is to be sent, until Meta has it, and what became of it.
CREATE TABLE outbound_messages (
    id              INTEGER PRIMARY KEY,
    account_id      TEXT    NOT NULL,
    kind            TEXT    NOT NULL CHECK (kind IN ('message', 'private_reply', 'comment_reply')),
    participant_id  TEXT,                           -- NULL until Meta says who wrote the comment
    comment_id      TEXT,                           -- the comment that is answered
    lane            TEXT    NOT NULL,               -- what keeps its order: a participant, or a comment
    state           TEXT    NOT NULL
        CHECK (state IN ('queued', 'sending', 'unknown', 'sent', 'delivered', 'read', 'failed', 'canceled')),
    holds           INTEGER NOT NULL DEFAULT 1,     -- 1 while the later ones of its lane wait for it
    due_at          INTEGER,                        -- ms; when the worker looks at it; NULL behind another, or when finished
    sent_by         TEXT    NOT NULL CHECK (sent_by IN ('human', 'automation')),
    body            TEXT,                           -- JSON, as requested; NULL after an erasure
    requested_by    TEXT    NOT NULL,               -- the name of the token
    idempotency_key TEXT,
    fingerprint     BLOB,                           -- of the request that brought the key
    expires_at      INTEGER,                        -- ms; not sent after this
    reason_code     TEXT,                           -- why it waits, is unknown or failed: a word for programs
    reason          TEXT,                           -- …and a sentence for people
    meta_code       INTEGER,
    meta_subcode    INTEGER,
    recorded        TEXT,                           -- the state that the event log was last told
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    settled_at      INTEGER                         -- ms; when it became sent, failed or canceled
) STRICT;

CREATE UNIQUE INDEX outbound_by_key ON outbound_messages (requested_by, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX outbound_due ON outbound_messages (account_id, due_at, id) WHERE due_at IS NOT NULL;
CREATE INDEX outbound_lanes ON outbound_messages (account_id, lane, id) WHERE holds = 1;
CREATE INDEX outbound_by_state ON outbound_messages (state, id);
CREATE INDEX outbound_by_person ON outbound_messages (account_id, participant_id, id);
CREATE INDEX outbound_by_comment ON outbound_messages (account_id, comment_id) WHERE comment_id IS NOT NULL;
CREATE INDEX outbound_expiring ON outbound_messages (expires_at)
    WHERE expires_at IS NOT NULL AND state IN ('queued', 'sending');

-- One call of the Send API each, in order.
CREATE TABLE outbound_parts (
    id               INTEGER PRIMARY KEY,
    outbound_id      INTEGER NOT NULL REFERENCES outbound_messages (id) ON DELETE CASCADE,
    position         INTEGER NOT NULL,
    state            TEXT    NOT NULL CHECK (state IN ('queued', 'sending', 'unknown', 'sent', 'failed', 'canceled')),
    content          TEXT,                          -- JSON of one message; NULL after an erasure
    attempts         INTEGER NOT NULL DEFAULT 0,
    began_at         INTEGER,                       -- ms; the latest attempt
    after_message_id INTEGER,                       -- the newest row of messages then: what became of it has a greater id
    tag              TEXT,                          -- HUMAN_AGENT, or NULL
    mid              TEXT,                          -- Meta's id of it
    mid_key          INTEGER,                       -- as in messages
    sent_at          INTEGER,                       -- ms; when Meta's answer, or the proof, was seen
    delivered_at     INTEGER,                       -- ms; its echo
    UNIQUE (outbound_id, position)
) STRICT;

CREATE INDEX outbound_parts_by_mid ON outbound_parts (mid_key) WHERE mid_key IS NOT NULL;

-- What each call came to. The row is committed before the call is made.
CREATE TABLE outbound_attempts (
    id       INTEGER PRIMARY KEY,
    part_id  INTEGER NOT NULL REFERENCES outbound_parts (id) ON DELETE CASCADE,
    began_at INTEGER NOT NULL,                      -- ms
    ended_at INTEGER,                               -- ms; NULL while under way, and for ever after a crash
    outcome  TEXT,                                  -- sent, refused, waits, unknown
    code     INTEGER,                               -- Meta's
    subcode  INTEGER,
    reason   TEXT
) STRICT;

CREATE INDEX outbound_attempts_by_part ON outbound_attempts (part_id, id);
CREATE INDEX outbound_attempts_by_time ON outbound_attempts (began_at);

CREATE VIEW v1_outbound_messages AS
SELECT
    CAST(o.id AS TEXT)                       AS id,
    o.account_id                             AS client_account_id,
    o.participant_id                         AS participant_platform_id,
    o.comment_id                             AS comment_id,
    o.kind                                   AS kind,
    o.state                                  AS state,
    o.reason_code                            AS reason_code,
    o.reason                                 AS reason,
    o.meta_code                              AS meta_code,
    o.meta_subcode                           AS meta_subcode,
    o.sent_by                                AS sent_by,
    o.requested_by                           AS requested_by,
    o.body ->> '$.text'                      AS text,
    o.body -> '$.attachments'                AS attachments,
    o.body -> '$.quickReplies'               AS quick_replies,
    o.body -> '$.template'                   AS template,
    (
        SELECT json_group_array(json_object(
            'state', p.state, 'platformMessageId', p.mid, 'tag', p.tag, 'attempts', p.attempts,
            'sentAt', strftime('%Y-%m-%dT%H:%M:%fZ', p.sent_at / 1000.0, 'unixepoch'),
            'deliveredAt', strftime('%Y-%m-%dT%H:%M:%fZ', p.delivered_at / 1000.0, 'unixepoch')
        ))
        FROM (SELECT * FROM outbound_parts WHERE outbound_id = o.id ORDER BY position) AS p
    )                                        AS parts,
    strftime('%Y-%m-%dT%H:%M:%fZ', o.expires_at / 1000.0, 'unixepoch') AS expires_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', o.created_at / 1000.0, 'unixepoch') AS created_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', o.updated_at / 1000.0, 'unixepoch') AS updated_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', o.settled_at / 1000.0, 'unixepoch') AS settled_at
FROM outbound_messages AS o;

-- The source 3: sent from here, and neither a webhook nor the API has shown it yet.
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
    CASE coalesce(m.source, 0) WHEN 1 THEN 'reconciled' WHEN 2 THEN 'history' WHEN 3 THEN 'sent' ELSE 'webhook' END
                                             AS source,
    CASE WHEN m.direction IS NULL AND m.listed_at IS NOT NULL THEN 'unavailable' END AS detail
FROM messages AS m
JOIN conversations AS c ON c.id = m.conversation_id
WHERE m.timeline_at IS NOT NULL;
