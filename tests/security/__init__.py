"""Attacks on running servers. Each line of the threat model in SECURITY.md has its test here or names another."""
