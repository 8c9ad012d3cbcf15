"""Drills: damage done on purpose to a running system, and a verdict on what became of every event."""
