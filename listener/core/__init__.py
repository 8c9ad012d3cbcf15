"""Shared by all packages: the event, errors, facts, and decisions without I/O. Imports nothing else of ours."""
