-- Comments and mentions. A thread is a comment with the replies under it; a mention is a thread too.
CREATE TABLE comments (
    id                INTEGER PRIMARY KEY,
    account_id        TEXT    NOT NULL,
    key               TEXT    NOT NULL,             -- Meta's id; caption:<media> of a mention in a caption; event:<hash> without an id
    comment_id        TEXT,                         -- Meta's id
    kind              TEXT    NOT NULL CHECK (kind IN ('comment', 'live_comment', 'mention')),
    root_id           INTEGER NOT NULL,             -- the comment that begins the thread; its own id where it begins one
    parent_id         TEXT,                         -- Meta's id of the comment that it answers
    told              INTEGER NOT NULL,             -- 0: only its id is known, from a reply to it
    media_id          TEXT,
    product_type      TEXT,                         -- FEED, REELS, STORY…
    original_media_id TEXT,                         -- what an ad was made of
    ad_id             TEXT,
    ad_title          TEXT,
    author_id         TEXT,
    author_username   TEXT,
    self_id           TEXT,                         -- of own comments: the account's id, as Meta scopes ids of people
    is_own            INTEGER NOT NULL DEFAULT 0,
    text              TEXT,                         -- NULL of a GIF, a sticker or a picture
    like_count        INTEGER,
    hidden            INTEGER NOT NULL DEFAULT 0,
    deleted_at        INTEGER,                      -- ms; when it was seen or made to be gone
    commented_at      INTEGER NOT NULL,             -- ms; Meta's time
    edited_at         INTEGER,                      -- ms; when another text was first seen
    checked_at        INTEGER,                      -- ms; when it was last read at Meta
    check_problem     TEXT,                         -- why it could not be read the last time
    due_at            INTEGER,                      -- ms; when the worker reads it; NULL when it need not
    attempts          INTEGER NOT NULL DEFAULT 0,   -- of the worker
    last_at           INTEGER NOT NULL,             -- ms; of the first of a thread: the latest comment in it
    replies           INTEGER NOT NULL DEFAULT 0,   -- of the first of a thread
    answered          INTEGER NOT NULL DEFAULT 0,   -- of the first of a thread: the account wrote last
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    UNIQUE (account_id, key)
) STRICT;

CREATE INDEX comments_threads ON comments (last_at DESC, id DESC) WHERE root_id = id;
CREATE INDEX comments_threads_by_account ON comments (account_id, last_at DESC, id DESC) WHERE root_id = id;
CREATE INDEX comments_by_media ON comments (media_id, last_at DESC, id DESC) WHERE root_id = id;
CREATE INDEX comments_by_root ON comments (root_id, commented_at, id);
CREATE INDEX comments_by_author ON comments (account_id, author_id) WHERE author_id IS NOT NULL;
CREATE INDEX comments_by_name ON comments (account_id, author_username) WHERE author_id IS NULL AND author_username IS NOT NULL;
CREATE INDEX comments_due ON comments (account_id, due_at) WHERE due_at IS NOT NULL;

-- What was commented on, as the Graph API shows it.
CREATE TABLE comment_media (
    id             INTEGER PRIMARY KEY,
    account_id     TEXT    NOT NULL,
    media_id       TEXT    NOT NULL,
    is_others      INTEGER NOT NULL,                -- 1: of another account, which mentioned this one
    permalink      TEXT,
    media_type     TEXT,                            -- IMAGE, VIDEO, CAROUSEL_ALBUM
    product_type   TEXT,
    thumbnail_url  TEXT,                            -- ends after some days
    caption        TEXT,
    owner_username TEXT,
    posted_at      INTEGER,                         -- ms
    fetched_at     INTEGER,                         -- ms
    problem        TEXT,                            -- why it could not be read the last time
    due_at         INTEGER,                         -- ms; when it is read; NULL when it need not
    attempts       INTEGER NOT NULL DEFAULT 0,
    created_at     INTEGER NOT NULL,
    UNIQUE (account_id, media_id)
) STRICT;

CREATE INDEX comment_media_due ON comment_media (account_id, due_at) WHERE due_at IS NOT NULL;

-- Few compared with messages, so they are indexed as they change.
CREATE VIRTUAL TABLE comment_search USING fts5 (text, author, tokenize = 'unicode61 remove_diacritics 2');

CREATE TRIGGER comments_begun AFTER INSERT ON comments WHEN new.text IS NOT NULL OR new.author_username IS NOT NULL
BEGIN
    INSERT INTO comment_search (rowid, text, author) VALUES (new.id, new.text, new.author_username);
END;

CREATE TRIGGER comments_changed AFTER UPDATE OF text, author_username, deleted_at ON comments
WHEN old.text IS NOT new.text OR old.author_username IS NOT new.author_username OR old.deleted_at IS NOT new.deleted_at
BEGIN
    DELETE FROM comment_search WHERE rowid = new.id;
    INSERT INTO comment_search (rowid, text, author) SELECT new.id, new.text, new.author_username
    WHERE new.deleted_at IS NULL;
END;

CREATE TRIGGER comments_removed AFTER DELETE ON comments
BEGIN
    DELETE FROM comment_search WHERE rowid = old.id;
END;

-- The webhook events from before comments were kept as threads: how far they have been taken over.
CREATE TABLE earlier_comments (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    next_id INTEGER NOT NULL,                       -- webhook_events.id
    last_id INTEGER NOT NULL
) STRICT;

INSERT INTO earlier_comments SELECT 1, 1, coalesce(max(id), 0) FROM webhook_events;

-- Webhook fields that Meta refused to subscribe the account to: JSON, {"field": "why"}.
ALTER TABLE accounts ADD COLUMN refused_fields TEXT;
ALTER TABLE accounts ADD COLUMN refused_fields_at INTEGER;    -- ms

CREATE VIEW v1_comments AS
SELECT
    CAST(c.id AS TEXT)                                                     AS id,
    CAST(c.root_id AS TEXT)                                                AS thread_id,
    c.account_id                                                           AS client_account_id,
    c.kind,
    c.comment_id                                                           AS platform_comment_id,
    c.parent_id                                                            AS platform_parent_id,
    c.media_id                                                             AS platform_media_id,
    c.ad_id                                                                AS ad_id,
    m.permalink                                                            AS permalink,
    c.author_id                                                            AS author_platform_id,
    c.author_username                                                      AS author_username,
    c.is_own                                                               AS is_own,
    c.text                                                                 AS text,
    c.like_count                                                           AS like_count,
    CASE WHEN c.deleted_at IS NOT NULL THEN 'deleted' WHEN c.hidden THEN 'hidden' ELSE 'visible' END AS state,
    strftime('%Y-%m-%dT%H:%M:%fZ', c.commented_at / 1000.0, 'unixepoch')   AS commented_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', c.edited_at / 1000.0, 'unixepoch')      AS edited_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', c.deleted_at / 1000.0, 'unixepoch')     AS deleted_at,
    strftime('%Y-%m-%dT%H:%M:%fZ', c.checked_at / 1000.0, 'unixepoch')     AS checked_at
FROM comments AS c
LEFT JOIN comment_media AS m ON m.account_id = c.account_id AND m.media_id = c.media_id
WHERE c.told;
