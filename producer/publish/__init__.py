"""The way of a publish request: checks, commits to the journal, answers."""
