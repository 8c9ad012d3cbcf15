"""The listener: claims, handles and stores each event of a source exactly once."""
