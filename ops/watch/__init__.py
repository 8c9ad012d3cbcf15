"""Watching a whole system from outside: what each part says of itself, as one picture, and what to do about it."""
