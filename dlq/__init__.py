"""Dead letters: the record, its file, what became of each letter, and the command to deal with them."""
