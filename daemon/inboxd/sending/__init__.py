"""The outbox: messages that the account sends, kept until Meta has them."""
