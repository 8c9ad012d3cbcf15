"""The store: PostgreSQL, whose primary key is the authority on what has been processed."""
