-- What the Conversations API says beside what webhooks brought. Times in ms.

-- How far each account was compared.
CREATE TABLE reconciled_accounts (
    account_id        TEXT    PRIMARY KEY,
    since             INTEGER NOT NULL,             -- earlier messages are for the history import
    checked_to        INTEGER NOT NULL,             -- every conversation that changed up to then was listed
    checked_at        INTEGER,                      -- when the last check ended
    next_check_at     INTEGER NOT NULL DEFAULT 0,
    quiet_checks      INTEGER NOT NULL DEFAULT 0,   -- checks in a row that found nothing new at all
    failures          INTEGER NOT NULL DEFAULT 0,   -- checks in a row that could not be finished
    error             TEXT,                         -- why the last one could not
    walked_at         INTEGER,                      -- when a list that is in no order was last walked to its end…
    walked_pages      INTEGER NOT NULL DEFAULT 0,   -- …and how many pages it had
    last_delivered_at INTEGER                       -- when a webhook last reached the account
) STRICT;

-- Conversations that changed. One with updated_time > read_to is due.
CREATE TABLE listed_conversations (
    account_id     TEXT    NOT NULL,
    api_key        INTEGER NOT NULL,                -- 64 bits of a hash of api_id
    api_id         TEXT,                            -- NULL once the participant was erased
    participant_id TEXT,                            -- NULL when it cannot be told, or was erased
    participants   TEXT,                            -- JSON, as the API named them
    updated_time   INTEGER NOT NULL,                -- as last listed
    read_to        INTEGER NOT NULL,                -- messages up to then are here
    erased_at      INTEGER,                         -- messages up to then are not to come back
    attempts       INTEGER NOT NULL DEFAULT 0,      -- failures in a row
    not_before     INTEGER NOT NULL DEFAULT 0,
    error          TEXT,
    PRIMARY KEY (account_id, api_key)
) STRICT, WITHOUT ROWID;

CREATE INDEX listed_conversations_due ON listed_conversations (account_id, not_before) WHERE updated_time > read_to;
CREATE INDEX listed_conversations_by_participant ON listed_conversations (account_id, participant_id)
    WHERE participant_id IS NOT NULL;

CREATE TABLE reconciliation_checks (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id  TEXT    NOT NULL,
    reason      TEXT    NOT NULL,                   -- schedule, restart, outage, subscription, companions
    started_at  INTEGER NOT NULL,
    finished_at INTEGER,
    calls       INTEGER NOT NULL DEFAULT 0,
    read        INTEGER NOT NULL DEFAULT 0,         -- conversations
    healed      INTEGER NOT NULL DEFAULT 0          -- messages
) STRICT;

CREATE INDEX reconciliation_checks_open ON reconciliation_checks (account_id) WHERE finished_at IS NULL;

-- Messages that no webhook had brought when the API showed them.
CREATE TABLE missed_messages (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    account_id     TEXT    NOT NULL,
    participant_id TEXT    NOT NULL,
    mid_key        INTEGER NOT NULL,
    mid            TEXT    NOT NULL,
    check_id       INTEGER,
    sent_at        INTEGER NOT NULL,
    found_at       INTEGER NOT NULL,
    healed_at      INTEGER,                         -- NULL: the API lists it and does not show it
    delivered_at   INTEGER,                         -- a webhook brought it after all, and this was noticed then
    cause          TEXT    NOT NULL
) STRICT;

CREATE UNIQUE INDEX missed_messages_by_mid ON missed_messages (account_id, mid_key, mid);
CREATE INDEX missed_messages_by_time ON missed_messages (account_id, sent_at);
CREATE INDEX missed_messages_by_check ON missed_messages (check_id);

-- How many messages there are, by the hour in which they were sent (hours since the epoch).
CREATE TABLE completeness_hours (
    account_id TEXT    NOT NULL,
    hour       INTEGER NOT NULL,
    seen       INTEGER NOT NULL DEFAULT 0,          -- listed by the API
    delivered  INTEGER NOT NULL DEFAULT 0,          -- of these, brought by a webhook
    healed     INTEGER NOT NULL DEFAULT 0,          -- of these, brought by a reconciliation
    PRIMARY KEY (account_id, hour)
) STRICT, WITHOUT ROWID;

-- Times in which webhooks could not arrive. An empty account_id means all accounts.
CREATE TABLE delivery_gaps (
    id         INTEGER PRIMARY KEY,
    account_id TEXT    NOT NULL,
    cause      TEXT    NOT NULL,                    -- down, subscription_lost
    since      INTEGER NOT NULL,
    until      INTEGER NOT NULL
) STRICT;

-- When the daemon was last alive.
CREATE TABLE daemon_heartbeat (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    alive_at INTEGER NOT NULL
) STRICT;

-- Messages of which only a change or a reply is known, and which were looked up one by one.
CREATE TABLE message_lookups (
    account_id TEXT    NOT NULL,
    mid_key    INTEGER NOT NULL,
    mid        TEXT    NOT NULL,
    noticed_at INTEGER NOT NULL,
    attempts   INTEGER NOT NULL DEFAULT 0,
    next_at    INTEGER,                             -- NULL: not again
    PRIMARY KEY (account_id, mid_key, mid)
) STRICT, WITHOUT ROWID;

CREATE INDEX message_lookups_due ON message_lookups (account_id, next_at) WHERE next_at IS NOT NULL;

CREATE VIEW v1_missed_messages AS
SELECT
    CAST(id AS TEXT)                                                       AS id,
    account_id                                                             AS client_account_id,
    participant_id                                                         AS participant_platform_id,
    mid                                                                    AS platform_message_id,
    cause,
    strftime('%Y-%m-%dT%H:%M:%fZ', sent_at / 1000.0, 'unixepoch')          AS sent_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', found_at / 1000.0, 'unixepoch')         AS found_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', healed_at / 1000.0, 'unixepoch')        AS healed_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', delivered_at / 1000.0, 'unixepoch')     AS delivered_at
FROM missed_messages;

-- Messages of which only a change is known, to be looked up.
CREATE INDEX messages_unknown ON messages (noticed_at) WHERE direction IS NULL AND listed_at IS NULL;
