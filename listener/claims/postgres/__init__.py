"""Claims kept in PostgreSQL, for when Redis is away."""
