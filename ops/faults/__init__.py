"""Damage done on purpose: drills, and the fault proxies that some of them need."""
