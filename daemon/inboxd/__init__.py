"""inboxd, the Instagram inbox daemon."""

__version__ = "0.1.0"
