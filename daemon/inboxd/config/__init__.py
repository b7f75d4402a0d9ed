"""The configuration: its schema, how it is read, and taking it up again while the daemon runs."""
