"""Programs from Debian packages. A test that needs one is skipped without it, but fails in CI."""

import os
import shutil

import pytest


def needed(program: str, *, package: str) -> str:
    """The program's path. If it is missing, the test is skipped, or fails under ``CI=true``."""
    path = shutil.which(program)
    if path is not None:
        return path
    why = f"{program} is not installed; it comes with Debian's package {package}"
    if os.environ.get("CI") == "true":
        pytest.fail(why)
    pytest.skip(why)
