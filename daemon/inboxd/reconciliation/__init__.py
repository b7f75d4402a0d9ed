"""Compares the Conversations API with what webhooks brought, adds what is missing, and says how complete it is."""
