"""Where letters and their states are kept: the port, and its adapter for files. PostgreSQL's is in the listener."""
