"""Brokers as sources: each gives a message to one member of the group, and waits until it is acknowledged.

A broker's library is imported by its adapter alone, and an adapter only when SOURCE names it.
"""
