-- Some of the message_edits that accompany a message carry its text. Earlier versions took these for edits as well, and the
-- message was shown as edited. What differs from the first text is let be: an edit may come without its number.
UPDATE messages SET edit_number = NULL, edited_at = NULL, edited_text = NULL
WHERE edit_number = 0 AND edited_text = text;
