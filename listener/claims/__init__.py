"""Claims: the right to process an event now, kept in Redis, in PostgreSQL, or in both."""
