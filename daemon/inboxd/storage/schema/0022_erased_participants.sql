-- What is read at Meta must not bring back who was erased: the event of the erasure says until when.
CREATE INDEX events_erased ON events (account_id, participant_id, occurred_at) WHERE type = 'participant.erased';

-- When an account was last subscribed again because nothing arrived although Meta said that it is subscribed (ms).
ALTER TABLE reconciled_accounts ADD COLUMN renewed_at INTEGER;
