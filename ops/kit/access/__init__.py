"""Access control: tokens and their rights, host names and origins, and the gate that every server uses."""
