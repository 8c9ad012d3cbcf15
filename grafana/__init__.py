"""Grafana's dashboards, written down as code. ``python -m grafana`` writes ``grafana/dashboards/*.json``."""
