"""The audit: it accounts for every event that the producer accepted."""
