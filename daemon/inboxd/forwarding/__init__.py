"""Pushes events, and Meta's own deliveries, to the systems of the user."""
