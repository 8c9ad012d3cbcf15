"""WebSocket connections for sources: the only package here that uses the library."""
