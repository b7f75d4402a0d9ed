-- SQLite gives the id of the newest message again once that is removed. What a part became must keep a greater id than
-- what was there when it was begun, in whatever order messages are removed.
CREATE TRIGGER newest_message_removed AFTER DELETE ON messages
WHEN old.id > (SELECT coalesce(max(id), 0) FROM messages)
BEGIN
    UPDATE outbound_parts SET after_message_id = (SELECT coalesce(max(id), 0) FROM messages)
    WHERE outbound_id IN (SELECT id FROM outbound_messages WHERE state IN ('sending', 'unknown', 'failed'))
      AND state IN ('sending', 'unknown') AND after_message_id > (SELECT coalesce(max(id), 0) FROM messages);
END;
UPDATE outbound_parts SET after_message_id = (SELECT coalesce(max(id), 0) FROM messages)
WHERE state IN ('sending', 'unknown') AND after_message_id > (SELECT coalesce(max(id), 0) FROM messages);

-- By Meta's clock (ms), and not later than it was there: ours may be wrong by any amount.
ALTER TABLE outbound_parts ADD COLUMN began_at_meta INTEGER;

-- Meta's codes of the error that caused a stop. The scope 'sends:<account>' is of sends alone.
ALTER TABLE graph_stops ADD COLUMN code INTEGER;
ALTER TABLE graph_stops ADD COLUMN subcode INTEGER;
