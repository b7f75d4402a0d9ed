"""What happens, as it happens, for whoever listens."""
