-- Full-text search. Names are indexed as they change; messages a moment later, so that receiving never waits for it.
CREATE VIRTUAL TABLE message_search USING fts5 (text, tokenize = 'unicode61 remove_diacritics 2');
CREATE VIRTUAL TABLE people_search USING fts5 (username, name, tokenize = 'unicode61 remove_diacritics 2');

CREATE TABLE search_progress (
    only       INTEGER PRIMARY KEY CHECK (only = 1),
    indexed_to INTEGER NOT NULL                     -- messages up to this id are in the index
) STRICT;
INSERT INTO search_progress VALUES (1, 0);

-- Messages whose text has changed since they were indexed.
CREATE TABLE search_changed (message_id INTEGER PRIMARY KEY) STRICT;

CREATE TRIGGER messages_changed AFTER UPDATE OF text, edited_text, deleted_at ON messages
WHEN old.text IS NOT new.text OR old.edited_text IS NOT new.edited_text OR old.deleted_at IS NOT new.deleted_at
BEGIN
    INSERT OR IGNORE INTO search_changed VALUES (new.id);
END;

CREATE TRIGGER messages_removed AFTER DELETE ON messages
BEGIN
    DELETE FROM message_search WHERE rowid = old.id;
END;

CREATE TRIGGER participants_named AFTER UPDATE OF username, name ON participants
WHEN old.username IS NOT new.username OR old.name IS NOT new.name
BEGIN
    DELETE FROM people_search WHERE rowid = (
        SELECT id FROM conversations WHERE account_id = new.account_id AND participant_id = new.participant_id
    );
    INSERT INTO people_search (rowid, username, name)
    SELECT id, new.username, new.name FROM conversations
    WHERE account_id = new.account_id AND participant_id = new.participant_id AND new.username IS NOT NULL;
END;

CREATE TRIGGER conversations_begun AFTER INSERT ON conversations
BEGIN
    INSERT INTO people_search (rowid, username, name)
    SELECT new.id, username, name FROM participants
    WHERE account_id = new.account_id AND participant_id = new.participant_id AND username IS NOT NULL;
END;

CREATE TRIGGER conversations_removed AFTER DELETE ON conversations
BEGIN
    DELETE FROM people_search WHERE rowid = old.id;
END;

INSERT INTO people_search (rowid, username, name)
SELECT c.id, p.username, p.name FROM conversations AS c
JOIN participants AS p ON p.account_id = c.account_id AND p.participant_id = c.participant_id
WHERE p.username IS NOT NULL;
