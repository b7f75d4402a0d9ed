-- Files that are sent as attachments. The bytes are in the folder "uploads" beside the database, under `name`.
CREATE TABLE uploads (
    id           INTEGER PRIMARY KEY,
    name         TEXT    NOT NULL UNIQUE,           -- of the file: random
    key          BLOB    NOT NULL,                  -- signs the public addresses of the file
    type         TEXT    NOT NULL,                  -- image, video, audio, file
    content_type TEXT    NOT NULL,
    bytes        INTEGER NOT NULL,
    requested_by TEXT    NOT NULL,                  -- the name of the token
    created_at   INTEGER NOT NULL,                  -- ms
    expires_at   INTEGER NOT NULL                   -- ms; removed after this unless a message that waits needs it
) STRICT;

CREATE INDEX uploads_by_expiry ON uploads (expires_at);

-- Which messages send which file.
CREATE TABLE upload_uses (
    outbound_id INTEGER NOT NULL REFERENCES outbound_messages (id) ON DELETE CASCADE,
    upload_id   INTEGER NOT NULL REFERENCES uploads (id) ON DELETE CASCADE,
    PRIMARY KEY (outbound_id, upload_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX upload_uses_by_upload ON upload_uses (upload_id);
