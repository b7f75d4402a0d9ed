"""The commands that talk to a daemon, or do its work while none runs."""
