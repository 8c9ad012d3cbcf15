"""Logs, metrics, health and the HTTP endpoint. All parts of the package use it; it uses none of them."""
