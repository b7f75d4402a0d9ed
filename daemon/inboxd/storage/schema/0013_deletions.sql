-- How a deletion that was asked for stands, for the page that tells it.
ALTER TABLE deletions ADD COLUMN outcome TEXT CHECK (outcome IN ('nothing_kept', 'not_matched'));
-- nothing_kept: there was nothing to delete; not_matched: nobody could tell whose data is meant. NULL: it is carried out
ALTER TABLE deletions ADD COLUMN waits_for TEXT CHECK (waits_for IN ('deliveries', 'journal', 'files', 'error'));

-- Earlier releases noted both as completed in the instant of the request, and could not tell one from the other.
UPDATE deletions SET outcome = 'not_matched' WHERE completed_at = requested_at;
