"""A circuit breaker for asyncio: pybreaker's state machine, fed with outcomes after the await.

By itself, pybreaker counts nothing on ``async def``, lets every caller through when half open, and takes a cancellation
for a failure. Here the caller reports outcomes, and a cancellation is none. A half-open breaker lets one probe through
at a time.
"""

import asyncio
import contextlib

import pybreaker

from unlost.listener.core.fact import BreakerChanged, Facts


class _Failed(Exception):
    """The failure that is reported to pybreaker."""


def _fail() -> None:
    raise _Failed


def _succeed() -> None:
    """End a series of failures."""


class Breaker:
    """Opens after ``fail_max`` failures in a row. After ``reset_seconds`` it allows one probe."""

    def __init__(self, name: str, *, fail_max: int, reset_seconds: float, facts: Facts) -> None:
        self.name = name
        self._probing = False
        self._calm = True
        """Closed, with no failures in a row: there is nothing to report to pybreaker."""
        self._circuit = pybreaker.CircuitBreaker(
            fail_max=fail_max, reset_timeout=0, name=name, listeners=[_StatesFacts(self, facts)],
            throw_new_error_on_trip=False,
        )  # fmt: skip
        self._reset_seconds = reset_seconds
        self._opened_at = 0.0
        self._closed = asyncio.Event()
        self._closed.set()
        self.why = ""
        """The last failure, until a call succeeds."""

    @property
    def state(self) -> str:
        """``closed``, ``open`` or ``half-open``."""
        return str(self._circuit.current_state)

    @property
    def is_open(self) -> bool:
        """Whether calls are known to fail: open, or half open without a successful probe."""
        return not self._calm and bool(self._circuit.current_state != pybreaker.STATE_CLOSED)

    def succeeded(self) -> None:
        """Report a call that succeeded, whatever the state was."""
        if self._calm:
            return
        self._probing = False
        self._closed.set()
        if self.is_open:
            self._circuit.close()
        elif self._circuit.fail_counter:
            self._circuit.call(_succeed)  # resets pybreaker's count of failures
        self._calm = True
        self.why = ""

    def failed(self, now: float, why: str) -> None:
        """Report a call that failed at ``now`` because of the server or the network."""
        self._calm = False
        self.why = why
        if self._probing:
            self._probing = False
            self._opened_at = now
            self._circuit.open()
        elif not self.is_open:
            with contextlib.suppress(_Failed, pybreaker.CircuitBreakerError):
                self._circuit.call(_fail)
            self._opened_at = now
        if self.is_open:
            self._closed.clear()

    async def wait_closed(self) -> None:
        """Return once the breaker is closed."""
        await self._closed.wait()

    def may_try(self, now: float) -> bool:
        """Return whether a call makes sense now. If true while open, the caller is the one probe."""
        if not self.is_open:
            return True
        if self._probing or now < self._opened_at + self._reset_seconds:
            return False
        self._probing = True
        self._circuit.half_open()
        return True


class _StatesFacts(pybreaker.CircuitBreakerListener):
    """Turns pybreaker's state changes into facts."""

    def __init__(self, breaker: Breaker, facts: Facts) -> None:
        self._breaker = breaker
        self._facts = facts

    def state_change(self, cb: pybreaker.CircuitBreaker, old_state: object, new_state: object) -> None:  # noqa: ARG002
        state = str(getattr(new_state, "name", new_state))
        self._facts(BreakerChanged(str(cb.name), state, "" if state == pybreaker.STATE_CLOSED else self._breaker.why))
