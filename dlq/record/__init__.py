"""The dead letter: its record, its file, and what became of it."""
