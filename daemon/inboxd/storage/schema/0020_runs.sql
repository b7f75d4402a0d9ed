-- Runs of every kind share their tables. Backfill's runs keep their ids, with all that is known of them.
CREATE TABLE runs (
    id                TEXT    PRIMARY KEY,
    kind              TEXT    NOT NULL CHECK (kind IN ('backfill', 'history')),
    account_id        TEXT    NOT NULL,
    status            TEXT    NOT NULL
        CHECK (status IN ('queued', 'running', 'paused', 'completed', 'failed', 'cancelled')),
    origin            TEXT    NOT NULL CHECK (origin IN ('api', 'schedule', 'command')),
    options           TEXT    NOT NULL DEFAULT '{}', -- JSON; what only this kind has
    max_conversations INTEGER,                      -- NULL: all of them
    dry_run           INTEGER NOT NULL DEFAULT 0,
    total             INTEGER NOT NULL,             -- conversations to do, as far as they were found
    success_count     INTEGER NOT NULL DEFAULT 0,
    error_count       INTEGER NOT NULL DEFAULT 0,
    skipped_count     INTEGER NOT NULL DEFAULT 0,
    added_count       INTEGER NOT NULL DEFAULT 0,   -- messages: new here; these three are history's
    known_count       INTEGER NOT NULL DEFAULT 0,   -- messages: here already
    unavailable_count INTEGER NOT NULL DEFAULT 0,   -- messages: listed without their details
    reason            TEXT,                         -- why it failed
    idempotency_key   TEXT    UNIQUE,
    request_hash      BLOB,
    created_at        INTEGER NOT NULL,
    started_at        INTEGER,
    finished_at       INTEGER
) STRICT, WITHOUT ROWID;

INSERT INTO runs (id, kind, account_id, status, origin, options, max_conversations, dry_run, total, success_count,
    error_count, skipped_count, reason, idempotency_key, request_hash, created_at, started_at, finished_at)
SELECT id, 'backfill', account_id, status, origin,
    json_object('batch_size', batch_size, 'refresh_before', refresh_before), max_conversations, dry_run, total,
    success_count, error_count, skipped_count, reason, idempotency_key, request_hash, created_at, started_at, finished_at
FROM backfill_runs;

-- Never two of a kind at once for an account.
CREATE UNIQUE INDEX runs_active ON runs (account_id, kind) WHERE status IN ('queued', 'running', 'paused');
CREATE INDEX runs_by_time ON runs (kind, created_at DESC, id, account_id, status);
CREATE INDEX runs_by_account ON runs (account_id);
CREATE INDEX runs_finished ON runs (finished_at) WHERE finished_at IS NOT NULL;

-- What became of each conversation of a run.
CREATE TABLE run_items (
    run_id          TEXT    NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    item            ANY     NOT NULL, -- the id of the conversation; history: as text, a hash of its id at Meta
    participant_id  TEXT,             -- NULL while it is not known
    outcome         TEXT    NOT NULL CHECK (outcome IN ('success', 'error', 'skipped')),
    code            INTEGER,          -- Meta's, when it named one
    reason          TEXT,
    attempts        INTEGER NOT NULL,
    at              INTEGER NOT NULL,
    PRIMARY KEY (run_id, item)
) STRICT, WITHOUT ROWID;

INSERT INTO run_items (run_id, item, participant_id, outcome, code, reason, attempts, at)
SELECT run_id, conversation_id, participant_id, outcome, code, reason, attempts, at FROM backfill_attempts;

CREATE INDEX run_items_problems ON run_items (run_id, at) WHERE outcome <> 'success';
CREATE INDEX run_items_by_participant ON run_items (participant_id);

CREATE TABLE run_batches (
    run_id        TEXT    NOT NULL REFERENCES runs (id) ON DELETE CASCADE,
    number        INTEGER NOT NULL,
    started_at    INTEGER NOT NULL,
    finished_at   INTEGER NOT NULL,
    success_count INTEGER NOT NULL,
    error_count   INTEGER NOT NULL,
    skipped_count INTEGER NOT NULL,
    PRIMARY KEY (run_id, number)
) STRICT, WITHOUT ROWID;

INSERT INTO run_batches SELECT run_id, number, started_at, finished_at, success_count, error_count, skipped_count
FROM backfill_batches;

DROP TABLE backfill_attempts;
DROP TABLE backfill_batches;
DROP TABLE backfill_runs;

-- The conversations that a history import has read. Their ids in the Conversations API are kept as hashes: they identify
-- people, and rows of people who were erased stay, without saying who they were, so that no import brings them back.
CREATE TABLE imported_conversations (
    account_id     TEXT    NOT NULL,
    api_key        INTEGER NOT NULL,    -- 64 bits of a hash of its id in the Conversations API
    participant_id TEXT,                -- NULL after the participant was erased
    imported_to    INTEGER,             -- ms; when the list said that it had changed last
    imported_since INTEGER NOT NULL,    -- ms; messages since then were read; 0: all of them
    imported_at    INTEGER NOT NULL,    -- ms
    erased_to      INTEGER,             -- ms; messages up to here do not come back
    PRIMARY KEY (account_id, api_key)
) STRICT, WITHOUT ROWID;

CREATE INDEX imported_conversations_by_participant ON imported_conversations (account_id, participant_id);

CREATE VIEW v1_runs AS
SELECT
    id,
    kind,
    account_id                               AS client_account_id,
    status,
    origin,
    dry_run,
    total,
    success_count,
    error_count,
    skipped_count,
    added_count                              AS messages_added,
    known_count                              AS messages_known,
    unavailable_count                        AS messages_unavailable,
    reason,
    strftime('%Y-%m-%dT%H:%M:%fZ', created_at / 1000.0, 'unixepoch')  AS created_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', started_at / 1000.0, 'unixepoch')  AS started_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', finished_at / 1000.0, 'unixepoch') AS finished_at
FROM runs;
