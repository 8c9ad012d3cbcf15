"""Free ports: no two processes are given the same one at the same time."""

import random
import socket

import pytest

from unlost.ops.system.ports import HELD, LOOPBACK, free_port, free_row


@pytest.fixture
def two() -> tuple[int, int]:
    """Two ports on which nobody listens, and that no process was given."""
    with socket.socket() as one, socket.socket() as other:
        one.bind((LOOPBACK, 0))
        other.bind((LOOPBACK, 0))
        return one.getsockname()[1], other.getsockname()[1]


def test_a_port_that_another_process_was_given_is_passed_over(
    two: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    taken, other = two
    choices = iter([taken, other])
    monkeypatch.setattr(random.SystemRandom, "choice", lambda *_: next(choices))
    with socket.socket(type=socket.SOCK_DGRAM) as reservation:
        reservation.bind((LOOPBACK, taken))
        assert free_port() == other


def test_a_given_port_is_reserved_and_a_server_can_have_it() -> None:
    port = free_port()
    with socket.socket(type=socket.SOCK_DGRAM) as another, pytest.raises(OSError, match="in use"):
        another.bind((LOOPBACK, port))
    with socket.socket() as server:
        server.bind((LOOPBACK, port))


def test_few_reservations_are_kept() -> None:
    first = free_port()
    for _ in range(HELD):
        free_port()
    with socket.socket(type=socket.SOCK_DGRAM) as another:
        another.bind((LOOPBACK, first))


def test_each_port_of_a_row_is_reserved_and_a_server_can_have_it() -> None:
    first = free_row(4)
    for port in range(first, first + 4):
        with socket.socket(type=socket.SOCK_DGRAM) as another, pytest.raises(OSError, match="in use"):
            another.bind((LOOPBACK, port))
        with socket.socket() as server:
            server.setsockopt(
                socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
            )  # as servers do: a connection may have ended there
            server.bind((LOOPBACK, port))
