-- Until when a participant may be answered, and what was decided about an account. Each of the conversation's times only
-- grows, so the order in which webhooks arrive does not matter.
ALTER TABLE conversations ADD COLUMN customer_wrote_at INTEGER;     -- ms; the latest thing that opened the window
ALTER TABLE conversations ADD COLUMN ad_clicked_at INTEGER;         -- ms; the latest message that came from an ad
ALTER TABLE conversations ADD COLUMN window_refused_at INTEGER;     -- ms; when Meta last said that the window is closed
ALTER TABLE conversations ADD COLUMN tag_refused_at INTEGER;        -- ms; the same of a message with the tag HUMAN_AGENT
ALTER TABLE conversations ADD COLUMN automation_paused_until INTEGER; -- ms; a human of the account wrote elsewhere

UPDATE conversations SET customer_wrote_at = (
    SELECT max(m.timeline_at) FROM messages AS m
    WHERE m.conversation_id = conversations.id AND m.direction = 0 AND m.timeline_at IS NOT NULL
);

UPDATE conversations SET ad_clicked_at = (
    SELECT max(m.timeline_at) FROM messages AS m
    WHERE m.conversation_id = conversations.id AND m.direction = 0 AND m.details ->> '$.referral.source' = 'ADS'
      AND m.timeline_at > (unixepoch() - 7 * 86400) * 1000
) WHERE last_message_at > (unixepoch() - 7 * 86400) * 1000;

ALTER TABLE accounts ADD COLUMN human_agent INTEGER NOT NULL DEFAULT 0;   -- whether Meta approved the Human Agent feature
ALTER TABLE accounts ADD COLUMN human_agent_refused_at INTEGER;           -- ms; when Meta last refused the tag
ALTER TABLE accounts ADD COLUMN wants_comments INTEGER NOT NULL DEFAULT 0; -- whether to subscribe to comments and mentions

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
    '/avatars/' || p.avatar                  AS participant_avatar,
    strftime('%Y-%m-%dT%H:%M:%fZ', c.customer_wrote_at / 1000.0, 'unixepoch') AS customer_wrote_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', c.automation_paused_until / 1000.0, 'unixepoch') AS automation_paused_until
FROM conversations AS c
LEFT JOIN participants AS p ON p.account_id = c.account_id AND p.participant_id = c.participant_id;
