"""Delivers effects over HTTP: the request, its signature, and what its answer means."""
