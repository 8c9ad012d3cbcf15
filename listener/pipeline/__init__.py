"""The way of an event through a listener: intake, claiming, handling, storing, settling."""
