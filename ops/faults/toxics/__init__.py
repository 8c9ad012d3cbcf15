"""A stand-in for Toxiproxy: TCP fault proxies with the same HTTP interface, for machines without the real server.

It is for tests and drills; the running system does not use it. It does what Toxiproxy's documentation says, and the
same contract tests run on both.
"""
