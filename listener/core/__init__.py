"""The words that all rooms share: the event, errors, facts, and decisions without I/O. Imports nothing else of ours."""
