"""Measuring on this machine, on real servers, with an audit of its own rows."""
