"""The SQLite file: opening, migrating, locking, copying it. Not what is in it."""
