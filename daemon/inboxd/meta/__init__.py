"""The protocols of Meta: signatures, webhook payloads and the Graph API. This package stores nothing."""
