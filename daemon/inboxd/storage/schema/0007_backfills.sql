-- Backfill runs: walks over an account's conversations that lack a profile.
CREATE TABLE backfill_runs (
    id                TEXT    PRIMARY KEY,
    account_id        TEXT    NOT NULL,
    status            TEXT    NOT NULL
        CHECK (status IN ('queued', 'running', 'paused', 'completed', 'failed', 'cancelled')),
    origin            TEXT    NOT NULL CHECK (origin IN ('api', 'schedule', 'command')),
    batch_size        INTEGER NOT NULL,
    max_conversations INTEGER,                      -- NULL: all of them
    refresh_before    INTEGER NOT NULL DEFAULT 0,   -- ms; profiles fetched before this are fetched again
    dry_run           INTEGER NOT NULL DEFAULT 0,
    total             INTEGER NOT NULL,             -- conversations that lacked a profile when it was created
    success_count     INTEGER NOT NULL DEFAULT 0,
    error_count       INTEGER NOT NULL DEFAULT 0,
    skipped_count     INTEGER NOT NULL DEFAULT 0,
    reason            TEXT,                         -- why it failed
    idempotency_key   TEXT    UNIQUE,
    request_hash      BLOB,
    created_at        INTEGER NOT NULL,
    started_at        INTEGER,
    finished_at       INTEGER
) STRICT, WITHOUT ROWID;

-- Never two at once for an account.
CREATE UNIQUE INDEX backfill_runs_active ON backfill_runs (account_id) WHERE status IN ('queued', 'running', 'paused');
CREATE INDEX backfill_runs_by_time ON backfill_runs (created_at DESC, id, account_id, status);
CREATE INDEX backfill_runs_finished ON backfill_runs (finished_at) WHERE finished_at IS NOT NULL;

-- What became of each conversation of a run.
CREATE TABLE backfill_attempts (
    run_id          TEXT    NOT NULL REFERENCES backfill_runs (id) ON DELETE CASCADE,
    conversation_id INTEGER NOT NULL,
    participant_id  TEXT    NOT NULL,
    outcome         TEXT    NOT NULL CHECK (outcome IN ('success', 'error', 'skipped')),
    code            INTEGER,                        -- Meta's, when it named one
    reason          TEXT,
    attempts        INTEGER NOT NULL,
    at              INTEGER NOT NULL,
    PRIMARY KEY (run_id, conversation_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX backfill_attempts_problems ON backfill_attempts (run_id, at) WHERE outcome <> 'success';

CREATE TABLE backfill_batches (
    run_id        TEXT    NOT NULL REFERENCES backfill_runs (id) ON DELETE CASCADE,
    number        INTEGER NOT NULL,
    started_at    INTEGER NOT NULL,
    finished_at   INTEGER NOT NULL,
    success_count INTEGER NOT NULL,
    error_count   INTEGER NOT NULL,
    skipped_count INTEGER NOT NULL,
    PRIMARY KEY (run_id, number)
) STRICT, WITHOUT ROWID;

-- When things that recur were last begun.
CREATE TABLE schedules (
    name     TEXT    PRIMARY KEY,
    begun_at INTEGER NOT NULL                       -- ms; the scheduled moment, not the jittered one
) STRICT, WITHOUT ROWID;
