-- Webhook endpoints: where events, or Meta's own deliveries, are pushed to.
CREATE TABLE webhook_endpoints (
    id                    TEXT    PRIMARY KEY,         -- we_…
    kind                  TEXT    NOT NULL CHECK (kind IN ('standard', 'meta')),
    url                   TEXT    NOT NULL,
    event_types           TEXT    NOT NULL,            -- JSON array of patterns; empty for the kind meta
    account_ids           TEXT    NOT NULL,            -- JSON array; empty: all accounts
    description           TEXT    NOT NULL DEFAULT '',
    secret                BLOB,                        -- encrypted; NULL for the kind meta
    previous_secret       BLOB,                        -- encrypted; also signs until previous_secret_until
    previous_secret_until INTEGER,                     -- ms
    enabled               INTEGER NOT NULL DEFAULT 1,
    disabled_reason       TEXT,                        -- why inboxd disabled it; NULL when somebody did
    rate_limit            REAL    NOT NULL DEFAULT 0,  -- requests per second; 0: no limit
    timeout_s             REAL    NOT NULL,
    cursor                INTEGER NOT NULL,            -- events.seq or deliveries.id; up to it everything is delivered, or has a row in webhook_retries
    generation            INTEGER NOT NULL DEFAULT 0,  -- raised when the cursor is moved by others than the endpoint's worker
    failing_since         INTEGER,                     -- ms; NULL: the last attempt at the endpoint as a whole succeeded
    last_success_at       INTEGER,                     -- ms
    last_attempt_at       INTEGER,                     -- ms
    last_error            TEXT,
    created_at            INTEGER NOT NULL,
    updated_at            INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What could not be delivered at first, and what must wait behind it.
CREATE TABLE webhook_retries (
    endpoint_id     TEXT    NOT NULL REFERENCES webhook_endpoints (id) ON DELETE CASCADE,
    seq             INTEGER NOT NULL,                  -- events.seq or deliveries.id
    item_id         TEXT    NOT NULL,                  -- evt_…, or dlv_… of a delivery
    type            TEXT    NOT NULL,
    lane            TEXT    NOT NULL,                  -- what must stay in order
    state           TEXT    NOT NULL CHECK (state IN ('waiting', 'retrying', 'failed')),
    attempts        INTEGER NOT NULL,
    next_attempt_at INTEGER NOT NULL,                  -- ms
    recorded_at     INTEGER NOT NULL,                  -- ms; of the event or the delivery
    first_failed_at INTEGER,                           -- ms
    error           TEXT,
    PRIMARY KEY (endpoint_id, seq)
) STRICT, WITHOUT ROWID;

CREATE INDEX webhook_retries_by_lane ON webhook_retries (endpoint_id, lane, seq) WHERE state <> 'failed';
CREATE INDEX webhook_retries_by_state ON webhook_retries (endpoint_id, state, seq);

-- The latest attempts of each endpoint.
CREATE TABLE webhook_attempts (
    id          INTEGER PRIMARY KEY,
    endpoint_id TEXT    NOT NULL REFERENCES webhook_endpoints (id) ON DELETE CASCADE,
    item_id     TEXT    NOT NULL,
    type        TEXT    NOT NULL,
    account_id  TEXT    NOT NULL,                      -- empty when it belongs to none, or to several
    attempt     INTEGER NOT NULL,                      -- from 1
    at          INTEGER NOT NULL,                      -- ms
    latency_ms  INTEGER NOT NULL,
    status      INTEGER,                               -- HTTP; NULL: no answer
    error       TEXT,                                  -- NULL: delivered
    response    TEXT                                   -- the first KiB of the answer
) STRICT;

CREATE INDEX webhook_attempts_by_endpoint ON webhook_attempts (endpoint_id, id);

-- SQLite gives the id of the newest delivery again once that is removed. So no cursor may stay after what is there, and
-- what a worker has read must be read again.
CREATE TRIGGER newest_delivery_removed AFTER DELETE ON deliveries
WHEN old.id > (SELECT coalesce(max(id), 0) FROM deliveries)
BEGIN
    DELETE FROM webhook_retries
    WHERE seq >= old.id AND endpoint_id IN (SELECT id FROM webhook_endpoints WHERE kind = 'meta');
    UPDATE webhook_endpoints
    SET cursor = min(cursor, (SELECT coalesce(max(id), 0) FROM deliveries)), generation = generation + 1
    WHERE kind = 'meta';
END;

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
    strftime('%Y-%m-%dT%H:%M:%fZ', created_at / 1000.0, 'unixepoch') AS created_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', updated_at / 1000.0, 'unixepoch') AS updated_at
FROM webhook_endpoints AS e;
