-- What an endpoint never got, because it was no longer kept: about, since what it does not want is among it.
ALTER TABLE webhook_endpoints ADD COLUMN lost INTEGER NOT NULL DEFAULT 0;
-- The same, of deliveries that went with the newest one; the endpoint's worker has not logged them yet.
ALTER TABLE webhook_endpoints ADD COLUMN lost_untold INTEGER NOT NULL DEFAULT 0;

-- Before, a retry of an earlier delivery stayed, although its number was given again: another delivery was taken for it.
-- And nobody was told of what the endpoint did not have yet.
DROP TRIGGER newest_delivery_removed;
CREATE TRIGGER newest_delivery_removed AFTER DELETE ON deliveries
WHEN old.id > (SELECT coalesce(max(id), 0) FROM deliveries)
BEGIN
    UPDATE webhook_endpoints
    SET lost_untold = lost_untold
            + max(0, old.id - max(cursor, (SELECT coalesce(max(id), 0) FROM deliveries)))
            + (
                SELECT count(*) FROM webhook_retries AS r
                WHERE r.endpoint_id = webhook_endpoints.id AND r.state <> 'failed' AND r.seq <= webhook_endpoints.cursor
                AND r.seq > (SELECT coalesce(max(id), 0) FROM deliveries)
            ),
        cursor = min(cursor, (SELECT coalesce(max(id), 0) FROM deliveries)),
        generation = generation + 1
    WHERE kind = 'meta';
    DELETE FROM webhook_retries
    WHERE seq > (SELECT coalesce(max(id), 0) FROM deliveries)
    AND endpoint_id IN (SELECT id FROM webhook_endpoints WHERE kind = 'meta');
END;

DROP VIEW v1_webhook_endpoints;
CREATE VIEW v1_webhook_endpoints AS
SELECT
    id,
    kind,
    url,
    event_types,
    account_ids,
    description,
    CASE WHEN enabled = 0 THEN 'disabled' WHEN failing_since IS NOT NULL THEN 'failing' ELSE 'ok' END AS state,
    disabled_reason,
    rate_limit,
    timeout_s AS timeout_seconds,
    cursor,
    strftime('%Y-%m-%dT%H:%M:%fZ', failing_since / 1000.0, 'unixepoch') AS failing_since,
    strftime('%Y-%m-%dT%H:%M:%fZ', last_success_at / 1000.0, 'unixepoch') AS last_success_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', last_attempt_at / 1000.0, 'unixepoch') AS last_attempt_at,
    last_error,
    (SELECT count(*) FROM webhook_retries AS r WHERE r.endpoint_id = e.id AND r.state <> 'failed') AS retries,
    (SELECT count(*) FROM webhook_retries AS r WHERE r.endpoint_id = e.id AND r.state = 'failed') AS failures,
    lost + lost_untold AS lost,
    strftime('%Y-%m-%dT%H:%M:%fZ', created_at / 1000.0, 'unixepoch') AS created_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', updated_at / 1000.0, 'unixepoch') AS updated_at
FROM webhook_endpoints AS e;
