-- Deliveries: every signed POST from Meta, as it came, before anything is made of it.
CREATE TABLE deliveries (
    id              INTEGER PRIMARY KEY,            -- arrival order
    received_at     INTEGER NOT NULL,               -- ms
    state           TEXT    NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done', 'failed')),
    attempts        INTEGER NOT NULL DEFAULT 0,     -- failed attempts so far
    next_attempt_at INTEGER NOT NULL DEFAULT 0,     -- ms; not before
    settled_at      INTEGER,                        -- ms; when it became done or failed
    error           TEXT,
    body            BLOB    NOT NULL
) STRICT;

CREATE INDEX deliveries_by_state ON deliveries (state, id);
