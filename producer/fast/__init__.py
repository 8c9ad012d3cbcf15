"""Code of our own in place of a library's, where it gains what users see."""
