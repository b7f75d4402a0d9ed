-- Our own copies of participants' pictures (the files are named by their hash), and earlier usernames.
ALTER TABLE participants ADD COLUMN previous_usernames TEXT NOT NULL DEFAULT '[]'; -- JSON: {username, until} (ms)
ALTER TABLE participants ADD COLUMN avatar TEXT;                                   -- hash of the file
ALTER TABLE participants ADD COLUMN avatar_at INTEGER;                             -- ms; when it was fetched
ALTER TABLE participants ADD COLUMN avatar_due_at INTEGER;                         -- ms; NULL when none is to be fetched
ALTER TABLE participants ADD COLUMN avatar_attempts INTEGER NOT NULL DEFAULT 0;

CREATE INDEX participants_avatar_due ON participants (avatar_due_at) WHERE avatar_due_at IS NOT NULL;
CREATE INDEX participants_avatar ON participants (avatar) WHERE avatar IS NOT NULL;
CREATE INDEX participants_avatar_age ON participants (avatar_at) WHERE avatar IS NOT NULL;

-- The newest first: whoever has just written is the one that people look at.
DROP INDEX participants_due;
CREATE INDEX participants_due ON participants (account_id, next_attempt_at DESC) WHERE next_attempt_at IS NOT NULL;

DROP VIEW v1_conversations;
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
    strftime('%Y-%m-%dT%H:%M:%fZ', c.updated_at / 1000.0, 'unixepoch') AS updated_at,
    '/avatars/' || p.avatar                  AS participant_avatar
FROM conversations AS c
LEFT JOIN participants AS p ON p.account_id = c.account_id AND p.participant_id = c.participant_id;

DROP VIEW v1_participants;
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
    strftime('%Y-%m-%dT%H:%M:%fZ', updated_at / 1000.0, 'unixepoch')      AS updated_at,
    '/avatars/' || avatar                    AS avatar,
    previous_usernames                       AS previous_usernames
FROM participants;
