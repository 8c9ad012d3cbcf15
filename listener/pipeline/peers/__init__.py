"""How listeners save each other work. Optional: all guarantees hold without it."""
