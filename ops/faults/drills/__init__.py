"""Drills: they damage a running system on purpose and check how every event ended."""
