"""Logs, metrics, health and the HTTP endpoint: used by all rooms, uses none."""
