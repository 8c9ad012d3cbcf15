"""The journal in PostgreSQL, shared by any number of producers."""
