"""Fixtures of tests whose listeners read brokers."""

from tests.end_to_end.faults.conftest import processes

__all__ = ["processes"]
