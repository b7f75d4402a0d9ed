"""The event bus: what changed, published to subscribers, and streamed to clients."""
