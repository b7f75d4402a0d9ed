"""What runs in the background, owned and supervised by the pool."""
