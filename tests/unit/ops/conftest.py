"""Helm, installed once for the tests of the chart."""

import pytest

from tests.support.helm_program import Helm, helm_in


@pytest.fixture(scope="session")
def helm(tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """The program."""
    return helm_in(tmp_path_factory.mktemp("helm"))
