"""Handlers that come with the package. Each is an application of routes, as a user would write it."""
