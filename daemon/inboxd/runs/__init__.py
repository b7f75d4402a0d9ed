"""Durable walks over an account's conversations."""
