"""Publishes the event log to a stream of NATS JetStream."""
