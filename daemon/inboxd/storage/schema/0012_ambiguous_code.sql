-- People of whom Meta said "code 100" without a subcode were taken for gone. That code says nothing about a person, so
-- they are due again: the latest that something was heard of first, one every three minutes for each account, so that
-- they take a tenth of the usual budget and whoever writes meanwhile goes first.
UPDATE participants SET
    state = CASE WHEN state = 'unavailable' THEN 'pending' ELSE state END,
    attempts = 0,
    next_attempt_at = again.at
FROM (
    SELECT account_id, participant_id,
           CAST(strftime('%s', 'now') AS INTEGER) * 1000
               + 180000 * row_number() OVER (PARTITION BY account_id ORDER BY updated_at DESC, participant_id) AS at
    FROM participants
    WHERE state IN ('unavailable', 'complete') AND reason LIKE 'Graph error 100:%' AND account_id <> participant_id
) AS again
WHERE participants.account_id = again.account_id AND participants.participant_id = again.participant_id;
