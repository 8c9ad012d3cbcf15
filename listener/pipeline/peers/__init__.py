"""What listeners spare each other. Optional: without it everything still holds."""
