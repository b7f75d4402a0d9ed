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
