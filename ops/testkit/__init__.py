"""The test kit: runs a user's handler in memory, without servers and without waiting, or on a real PostgreSQL."""
