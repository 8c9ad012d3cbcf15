"""Claims: the right to process an event now, kept in Redis, in Postgres, or in both."""
