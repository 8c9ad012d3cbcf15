"""Code in place of a library's, where users see the gain. The only rooms that use the internals of libraries.

Each piece stands behind the same protocol as its ordinary twin, which uses the library as its authors meant. Contract
tests hold both to the same behaviour. ``FAST=off`` takes the twins.
"""
