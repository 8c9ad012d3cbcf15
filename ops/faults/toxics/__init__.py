"""A stand-in for Toxiproxy: fault proxies for TCP, ruled by the same HTTP calls, for machines without the real server.

It is for tests and drills; nothing of the running system uses it. What it does is what Toxiproxy documents, and
the same contract tests run on both.
"""
