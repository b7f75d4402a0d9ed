"""How Meta speaks: signatures, webhook payloads and the Graph API. No storage in here."""
