"""Watching a whole system from outside: one picture of what each part reports, and what to do about problems."""
