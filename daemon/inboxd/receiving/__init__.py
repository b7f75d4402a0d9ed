"""Webhooks: verified, stored, acknowledged, and looked at again where one failed."""
