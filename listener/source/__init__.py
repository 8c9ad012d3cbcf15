"""The source: one WebSocket connection at a time. It reconnects, resumes and pauses."""
