"""The stream of Unlost's own producer, and any WebSocket feed that sends the same envelope."""
