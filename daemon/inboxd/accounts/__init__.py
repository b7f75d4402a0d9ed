"""Accounts: the served accounts, their tokens, their subscriptions and their budgets of Graph calls."""
