"""The journal: stores every accepted event under a number, durably, before the event is acknowledged."""
