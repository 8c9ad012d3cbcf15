"""Replaying dead letters: the plan, the run, and what it needs."""
