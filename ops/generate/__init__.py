"""Generates documents from the code: the pages of metrics and settings, and the OpenAPI files."""
