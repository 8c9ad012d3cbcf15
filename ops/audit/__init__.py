"""Accounting: what became of every event that the producer accepted."""
