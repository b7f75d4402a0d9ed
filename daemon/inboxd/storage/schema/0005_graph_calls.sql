-- The Graph API calls of the last hour, and what stops more of them. Times are milliseconds of the monotonic clock, which
-- goes on over a restart of the daemon and starts anew when the machine boots.
CREATE TABLE graph_calls (
    id         INTEGER PRIMARY KEY,
    account_id TEXT    NOT NULL,
    boot       TEXT    NOT NULL,
    at         INTEGER NOT NULL
) STRICT;

CREATE INDEX graph_calls_by_account ON graph_calls (account_id, boot, at);

CREATE TABLE graph_stops (
    scope   TEXT    PRIMARY KEY,                    -- an account's id, or 'app' for all of them
    boot    TEXT    NOT NULL,
    at      INTEGER NOT NULL,
    length  INTEGER NOT NULL,                       -- ms from `at`
    strikes INTEGER NOT NULL,
    reason  TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
