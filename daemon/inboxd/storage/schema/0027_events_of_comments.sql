-- The text of a deleted comment goes from its earlier events, as that of a message does. Events of comments are few: this
-- index costs the others nothing.
CREATE INDEX events_of_comments ON events (subject)
    WHERE type IN ('comment.received', 'comment.updated', 'comment.hidden', 'comment.unhidden');
