"""Accounts: who is served, their tokens and subscriptions, and what they may ask of Meta."""
