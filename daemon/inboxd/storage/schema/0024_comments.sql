-- Comments and mentions, as threads of their own kind.
SELECT 1;
