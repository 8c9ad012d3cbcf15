"""The client: publishes events from other programs. It imports nothing else of ours."""
