"""The store: PostgreSQL. Its primary key is the authority on what has been processed."""
