"""The stages of an event in a listener: intake, claiming, handling, storing, settling."""
