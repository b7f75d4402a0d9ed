-- Nearly every message is accompanied by a message_edit without text, which is no edit. Earlier versions took it for one:
-- the message lost its text on the page, in searches and in exports. What Meta sent first is still there.
UPDATE messages SET
    edit_number = NULL, edited_at = NULL, edited_text = NULL,
    -- Without that edit nothing can be shown of a message that never arrived itself.
    timeline_at = CASE WHEN sent_at IS NULL AND deleted_at IS NULL THEN NULL ELSE timeline_at END
WHERE edited_text = '';
