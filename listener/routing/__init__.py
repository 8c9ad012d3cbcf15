"""Routing: an application of the user's, from its declarations to the handler that the pipeline runs."""
