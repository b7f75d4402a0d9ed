"""The SQLite file: opens, migrates, locks and copies it. The features own its contents."""
