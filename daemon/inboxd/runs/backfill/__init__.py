"""Backfill: fetching the profiles that conversations lack."""
