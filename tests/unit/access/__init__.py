"""Who may do what: pure decisions, and the file of tokens."""
