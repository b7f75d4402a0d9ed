"""Conversations and messages: made from deliveries, searched, read and shown."""
