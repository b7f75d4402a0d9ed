"""The dashboard: what the daemon does, for people. Server-rendered; a little script keeps it live."""
