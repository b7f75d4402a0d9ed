-- The event log: what really changed, appended in the transaction that changed it. Nothing in it is changed later, except
-- that the text of a message goes when its sender takes it back, and all that is of a person when the person is erased.
CREATE TABLE events (
    seq             INTEGER PRIMARY KEY AUTOINCREMENT, -- the cursor of readers; never given twice
    type            TEXT    NOT NULL,                  -- object.verb, such as message.received
    account_id      TEXT    NOT NULL,                  -- empty when it belongs to no account
    participant_id  TEXT,
    conversation_id INTEGER,                           -- conversations.id
    message_id      INTEGER,                           -- messages.id
    subject         TEXT,                              -- the id of anything else that it is about: a run, a delivery
    occurred_at     INTEGER NOT NULL,                  -- ms; Meta's time where Meta tells one
    recorded_at     INTEGER NOT NULL,                  -- ms
    total           INTEGER NOT NULL,                  -- bytes of all events up to this one, as far as they were counted
    data            TEXT    NOT NULL                   -- JSON, read by the type's renderer
) STRICT;

-- Messages get their ids in order, so this index grows at its end. An index by conversation or participant would cost
-- each event a page of the journal.
CREATE INDEX events_by_message ON events (message_id) WHERE message_id IS NOT NULL;

-- Up to which event the log was pruned: whoever asks for an earlier one is told.
CREATE TABLE event_log (
    one       INTEGER PRIMARY KEY CHECK (one = 1),
    pruned_to INTEGER NOT NULL DEFAULT 0
) STRICT;

INSERT INTO event_log (one) VALUES (1);

-- Without the data: how that is kept may change, and the API shows it.
CREATE VIEW v1_events AS
SELECT
    seq                                                                    AS cursor,
    printf('evt_%012x%014x', recorded_at, seq)                             AS id,
    type,
    nullif(account_id, '')                                                 AS client_account_id,
    participant_id                                                         AS participant_platform_id,
    CAST(conversation_id AS TEXT)                                          AS conversation_id,
    CAST(message_id AS TEXT)                                               AS message_id,
    subject,
    strftime('%Y-%m-%dT%H:%M:%fZ', occurred_at / 1000.0, 'unixepoch')      AS occurred_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', recorded_at / 1000.0, 'unixepoch')      AS recorded_at
FROM events;
