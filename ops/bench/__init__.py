"""The benchmark: it measures on this machine, with real servers, and audits its own rows."""
