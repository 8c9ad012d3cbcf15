"""The source: one WebSocket connection at a time, reconnecting, resuming, pausing."""
