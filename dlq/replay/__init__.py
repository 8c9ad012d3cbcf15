"""Replaying dead letters: the plan, the run, and the port that the run needs."""
