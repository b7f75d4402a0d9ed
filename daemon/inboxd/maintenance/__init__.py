"""Looking after the daemon: backup, doctor, health, metrics, traffic, statistics."""
