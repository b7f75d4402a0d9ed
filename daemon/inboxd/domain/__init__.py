"""The types and rules for conversations, messages, profiles, accounts and runs. No I/O, no framework."""
