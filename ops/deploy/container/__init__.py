"""Programs for containers only: create the database password, and check health without curl."""
