"""Tests of handlers and feeds, without servers and without waiting.

``TestApp`` runs events through an application. ``TestFeed`` lets a profile or a class read recorded frames.
"""

from unlost.ops.testkit.app import TestApp
from unlost.ops.testkit.feed import TestFeed
from unlost.ops.testkit.memory import Unanswered
from unlost.ops.testkit.result import Outcome, Result, Statement

__all__ = ["Outcome", "Result", "Statement", "TestApp", "TestFeed", "Unanswered"]
