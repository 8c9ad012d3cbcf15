"""Checks that the built packages can be installed and used on a bare machine: ``make release``."""
