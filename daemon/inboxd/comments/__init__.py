"""Comments and mentions as threads: what webhooks tell of them, what is read at Meta, and what is done with them."""
