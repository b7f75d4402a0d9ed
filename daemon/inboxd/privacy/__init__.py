"""Erasing, exporting and expiring what is kept of people."""
