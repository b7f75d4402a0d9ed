"""Participants: their profiles and their avatars."""
