"""Subscribers of facts: metrics, logs, and the recent past of events. They decide nothing."""
