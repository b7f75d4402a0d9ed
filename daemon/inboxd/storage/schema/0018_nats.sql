-- Programs outside that the daemon itself hands the whole event log to, such as a NATS server: how far each has come.
CREATE TABLE event_consumers (
    name            TEXT    PRIMARY KEY,               -- nats
    cursor          INTEGER NOT NULL,                  -- events.seq; everything up to it was handed over or set aside
    set_aside       INTEGER NOT NULL DEFAULT 0,        -- events that it refuses for good, such as too large ones
    skipped         INTEGER NOT NULL DEFAULT 0,        -- events that were pruned from the log before they were handed over
    last_success_at INTEGER,                           -- ms
    last_error      TEXT,
    last_error_at   INTEGER                            -- ms
) STRICT;

CREATE VIEW v1_event_consumers AS
SELECT
    name,
    cursor,
    set_aside,
    skipped,
    CASE WHEN last_success_at IS NOT NULL THEN strftime('%Y-%m-%dT%H:%M:%fZ', last_success_at / 1000.0, 'unixepoch') END
        AS last_success_at,
    last_error,
    CASE WHEN last_error_at IS NOT NULL THEN strftime('%Y-%m-%dT%H:%M:%fZ', last_error_at / 1000.0, 'unixepoch') END
        AS last_error_at
FROM event_consumers;
