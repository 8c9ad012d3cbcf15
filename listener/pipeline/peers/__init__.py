"""Work that listeners save each other. Optional: without it everything still holds."""
