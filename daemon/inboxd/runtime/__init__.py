"""What any daemon needs: time, errors, logs, metrics, workers and their supervision."""
