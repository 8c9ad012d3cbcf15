"""Programs for containers only: create the secrets, and check health without curl."""
