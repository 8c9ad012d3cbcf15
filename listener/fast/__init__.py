"""Code in place of a library's, where users see the gain. Only ``fast`` packages use the internals of libraries.

Each part has the same protocol as its ordinary twin, which uses the library's documented interface. Contract
tests hold both to the same behaviour. ``FAST=off`` takes the twins.
"""
