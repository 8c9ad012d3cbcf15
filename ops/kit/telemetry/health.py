"""Health, as pure data: three questions about one process, answered from named checks.

- live: the loop turns and the watched tasks run. No dependency can fail it, for a restart heals none.
- ready: new work can be taken; otherwise the reasons why not.
- the whole picture: all checks and facts, for people.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from unlost.ops.kit.telemetry.mask import masked_within


@dataclass(frozen=True, slots=True)
class Check:
    """One named thing that is well, or is not, and then why."""

    name: str
    well: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """What is known now. ``alive``: loop and tasks only. ``able``: whatever new work needs."""

    instance: str
    alive: tuple[Check, ...] = ()
    able: tuple[Check, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    """What is not as usual, and yet no reason against new work."""

    @property
    def is_live(self) -> bool:
        """Whether a restart would be of no use."""
        return all(check.well for check in self.alive)

    @property
    def is_ready(self) -> bool:
        """Whether new work is welcome; who is not alive is not ready either."""
        return self.is_live and all(check.well for check in self.able)

    def live(self) -> dict[str, object]:
        """The answer to ``/health/live``."""
        return _shown({"status": "live" if self.is_live else "dead", "reasons": _reasons(self.alive)})

    def ready(self) -> dict[str, object]:
        """The answer to ``/health/ready``."""
        return _shown(
            {
                "status": "ready" if self.is_ready else "unready",
                "reasons": _reasons((*self.alive, *self.able)),
                "remarks": list(self.remarks),
            }
        )

    def whole(self) -> dict[str, object]:
        """The answer to ``/health``."""
        whole = {
            "instance": self.instance,
            "live": self.is_live,
            "ready": self.is_ready,
            "reasons": _reasons((*self.alive, *self.able)),
            "remarks": list(self.remarks),
            "checks": {check.name: check.well for check in (*self.alive, *self.able)},
            **self.facts,
        }
        return _shown(whole)


def health_routes(now: Callable[[], Health]) -> list[Route]:
    """``/health/live``, ``/health/ready`` and ``/health``: 200 where well, 503 where not."""

    async def live(request: Request) -> JSONResponse:  # noqa: ARG001 - Starlette's signature
        health = now()
        return JSONResponse(health.live(), 200 if health.is_live else 503)

    async def ready(request: Request) -> JSONResponse:  # noqa: ARG001
        health = now()
        return JSONResponse(health.ready(), 200 if health.is_ready else 503)

    async def whole(request: Request) -> JSONResponse:  # noqa: ARG001
        health = now()
        return JSONResponse(health.whole(), 200 if health.is_ready else 503)

    return [Route("/health/live", live), Route("/health/ready", ready), Route("/health", whole)]


def _shown(told: dict[str, object]) -> dict[str, object]:
    """Reasons quote errors, and errors quote URLs."""
    return {name: masked_within(value) for name, value in told.items()}


def _reasons(checks: tuple[Check, ...]) -> list[str]:
    return [f"{check.name}: {check.reason}" if check.reason else check.name for check in checks if not check.well]
