"""The producer: a durable journal, publishing over HTTP, a resumable stream over WebSocket, and a web page."""
