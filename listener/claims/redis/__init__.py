"""Claims kept in Redis."""
