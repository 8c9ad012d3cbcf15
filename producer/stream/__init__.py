"""The stream that listeners read."""
