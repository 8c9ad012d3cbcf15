"""Rights: pure decisions, and the file of tokens."""
