"""What we mean by conversations, messages and profiles. Pure: no I/O, no framework."""
