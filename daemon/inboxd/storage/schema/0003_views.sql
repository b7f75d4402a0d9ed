-- The file belongs to its user. These views keep their columns; see docs/database.md.
CREATE VIEW v1_conversations AS
SELECT
    CAST(c.id AS TEXT)                       AS id,
    c.account_id                             AS client_account_id,
    c.account_id || '_' || c.participant_id  AS platform_conversation_id,
    c.participant_id                         AS participant_platform_id,
    p.username                               AS participant_username,
    p.profile_pic                            AS participant_profile_pic,
    strftime('%Y-%m-%dT%H:%M:%fZ', c.last_message_at / 1000.0, 'unixepoch') AS last_message_at,
    c.unread_count                           AS unread_count,
    c.status                                 AS status,
    c.metadata                               AS metadata,
    strftime('%Y-%m-%dT%H:%M:%fZ', c.created_at / 1000.0, 'unixepoch') AS created_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', c.updated_at / 1000.0, 'unixepoch') AS updated_at
FROM conversations AS c
LEFT JOIN participants AS p ON p.account_id = c.account_id AND p.participant_id = c.participant_id;

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

CREATE VIEW v1_participants AS
SELECT
    account_id                               AS client_account_id,
    participant_id                           AS participant_platform_id,
    state                                    AS profile_state,
    username                                 AS username,
    name                                     AS name,
    profile_pic                              AS profile_pic,
    follower_count                           AS follower_count,
    is_verified_user                         AS is_verified_user,
    is_user_follow_business                  AS is_user_follow_business,
    is_business_follow_user                  AS is_business_follow_user,
    reason                                   AS reason,
    attempts                                 AS attempts,
    strftime('%Y-%m-%dT%H:%M:%fZ', next_attempt_at / 1000.0, 'unixepoch') AS next_attempt_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', fetched_at / 1000.0, 'unixepoch')      AS fetched_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', created_at / 1000.0, 'unixepoch')      AS created_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', updated_at / 1000.0, 'unixepoch')      AS updated_at
FROM participants;
