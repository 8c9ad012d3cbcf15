"""The protocols that the pipeline needs from the outside: claims, rows, cursors, dead letters, membership."""
