"""Runs: durable walks over an account's conversations. Here is what every kind of run uses; each kind has a folder."""
