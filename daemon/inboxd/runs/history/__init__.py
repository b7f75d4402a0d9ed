"""History import: the messages from before an account was connected."""
