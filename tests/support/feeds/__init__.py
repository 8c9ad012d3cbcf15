"""Stand-ins for well-known feeds, written from their public documentation."""
