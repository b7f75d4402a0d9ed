-- Files that are sent as attachments, and from which public address Meta may fetch them for a time.
SELECT 1;
