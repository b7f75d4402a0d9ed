-- Participants: the people on the other side, and what the User Profile API said of them.
CREATE TABLE participants (
    account_id              TEXT    NOT NULL,
    participant_id          TEXT    NOT NULL,       -- IGSID: scoped to the account
    state                   TEXT    NOT NULL DEFAULT 'pending'
        CHECK (state IN ('pending', 'complete', 'no_consent', 'unavailable', 'failed')),
    username                TEXT,
    name                    TEXT,
    profile_pic             TEXT,                   -- Meta's URL: it dies after days
    follower_count          INTEGER,
    is_verified_user        INTEGER,
    is_user_follow_business INTEGER,
    is_business_follow_user INTEGER,
    fetched_at              INTEGER,                -- ms; the last success
    attempts                INTEGER NOT NULL DEFAULT 0,
    next_attempt_at         INTEGER,                -- ms; NULL when no fetch is due
    reason                  TEXT,                   -- why the state is not complete
    created_at              INTEGER NOT NULL,
    updated_at              INTEGER NOT NULL,
    PRIMARY KEY (account_id, participant_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX participants_due ON participants (account_id, next_attempt_at) WHERE next_attempt_at IS NOT NULL;

CREATE TABLE conversations (
    id              INTEGER PRIMARY KEY,
    account_id      TEXT    NOT NULL,
    participant_id  TEXT    NOT NULL,
    status          TEXT    NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'closed', 'archived')),
    metadata        TEXT    NOT NULL DEFAULT '{}',  -- JSON, the user's own
    last_message_at INTEGER,                        -- ms; derived from messages, as are the next two
    answered_at     INTEGER,                        -- ms; the latest message of the account
    unread_count    INTEGER NOT NULL DEFAULT 0,     -- inbound, not deleted, after answered_at and read_at
    read_at         INTEGER,                        -- ms; the latest message that the account is known to have read
    seen_at         INTEGER,                        -- ms; the latest message that the participant has seen
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    UNIQUE (account_id, participant_id)
) STRICT;

-- The one order in which conversations are listed, with everything that lists filter by: a filtered list or count walks
-- this index alone. (An index per filter would be four entries rewritten for every message.)
CREATE INDEX conversations_by_activity
    ON conversations (last_message_at DESC, id DESC, account_id, status, unread_count);

CREATE TABLE messages (
    id                     INTEGER PRIMARY KEY,
    conversation_id        INTEGER NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
    mid                    TEXT    NOT NULL,
    mid_key                INTEGER NOT NULL,        -- 64 bits of a hash of mid: mids are long, and the index is hot
    sender_id              TEXT,
    direction              INTEGER,                 -- 0 inbound, 1 outbound; NULL until the message itself arrives
    sent_at                INTEGER,                 -- ms; NULL until the message itself arrives
    timeline_at            INTEGER,                 -- ms; its place in the conversation; NULL while it is not shown
    noticed_at             INTEGER NOT NULL,        -- ms; the earliest time of anything known about it
    type                   TEXT,
    text                   TEXT,
    attachments            TEXT,                    -- JSON array
    details                TEXT,                    -- JSON object: reply_to, quick_reply, referral, postback…
    standby                INTEGER NOT NULL DEFAULT 0,
    edit_number            INTEGER,
    edited_at              INTEGER,
    edited_text            TEXT,
    deleted_at             INTEGER,
    seen_by_account_at     INTEGER,
    seen_by_participant_at INTEGER,
    reactions              TEXT,                    -- JSON array, one element per person
    delivery_id            INTEGER,                 -- the delivery that first mentioned it
    created_at             INTEGER NOT NULL,
    updated_at             INTEGER NOT NULL,
    UNIQUE (conversation_id, mid_key)
) STRICT;

-- Covers paging, last-message time, last answer and the unread count without touching the table.
CREATE INDEX messages_timeline ON messages (conversation_id, timeline_at DESC, id DESC, direction, deleted_at)
    WHERE timeline_at IS NOT NULL;

-- Events that are no message and change none: kept as they came.
CREATE TABLE events (
    id             INTEGER PRIMARY KEY,
    fingerprint    BLOB    NOT NULL UNIQUE,         -- what makes two events the same event
    kind           TEXT    NOT NULL,
    account_id     TEXT    NOT NULL,
    participant_id TEXT,
    happened_at    INTEGER,                         -- ms; NULL when Meta does not say
    reason         TEXT,                            -- of an unknown event: why it is unknown
    payload        BLOB    NOT NULL,                -- JSON as it came
    delivery_id    INTEGER,
    created_at     INTEGER NOT NULL
) STRICT;

CREATE INDEX events_by_kind ON events (kind, id);
