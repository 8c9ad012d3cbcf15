"""The dead letter: its record, its file, and its state."""
