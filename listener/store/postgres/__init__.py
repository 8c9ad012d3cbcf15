"""Rows, burials, membership and cursors in PostgreSQL."""
