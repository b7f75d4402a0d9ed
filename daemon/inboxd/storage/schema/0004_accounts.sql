-- Accounts: who is served, with their tokens, and how they stand with Meta.
CREATE TABLE accounts (
    id                      TEXT    PRIMARY KEY,    -- IG_ID: what webhooks carry
    flavour                 TEXT    NOT NULL CHECK (flavour IN ('instagram', 'facebook')),
    state                   TEXT    NOT NULL
        CHECK (state IN ('active', 'needs_login', 'lacks_permission', 'deauthorized')),
    reason                  TEXT,
    name                    TEXT    NOT NULL DEFAULT '',
    username                TEXT,
    app_scoped_id           TEXT,                   -- what signed_request carries (Instagram Login)
    page_id                 TEXT,                   -- the linked Page (Facebook Login)
    configured              INTEGER NOT NULL DEFAULT 0,
    token                   BLOB,                   -- encrypted (Fernet)
    token_origin            BLOB,                   -- keyed hash of the token as it was given, to recognise a new one
    token_obtained_at       INTEGER,                -- ms
    token_expires_at        INTEGER,                -- ms; NULL when unknown
    refresh_tried_at        INTEGER,                -- ms; the last refresh that failed
    subscribed_fields       TEXT,                   -- JSON array; NULL when never looked at
    subscription_checked_at INTEGER,                -- ms
    created_at              INTEGER NOT NULL,
    updated_at              INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Deletions that an account's owner asked Meta for: a receipt, which names nobody once it is completed.
CREATE TABLE deletions (
    code         TEXT    PRIMARY KEY,
    account_id   TEXT,                              -- NULL once completed
    requested_at INTEGER NOT NULL,                  -- ms
    completed_at INTEGER                            -- ms
) STRICT, WITHOUT ROWID;

CREATE INDEX deletions_open ON deletions (requested_at) WHERE completed_at IS NULL;
