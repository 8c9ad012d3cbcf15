"""Dead letters: the record, its file, the state of each letter, and the command ``dlq``."""
