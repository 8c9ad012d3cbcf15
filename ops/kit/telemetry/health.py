"""Health as pure data: three answers about one process, computed from named checks.

- live: the event loop turns and the watched tasks run. No dependency is part of it, since a restart repairs none.
- ready: the process can take new work; if not, the reasons.
- the whole state: all checks and facts, for people.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from unlost.ops.kit.telemetry.mask import masked_within


@dataclass(frozen=True, slots=True)
class Check:
    """One named condition: it holds, or it does not and there is a reason."""

    name: str
    well: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Health:
    """The present state. ``alive``: checks of loop and tasks only. ``able``: checks of all that new work needs."""

    instance: str
    alive: tuple[Check, ...] = ()
    able: tuple[Check, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    """Unusual facts that do not prevent new work."""

    @property
    def is_live(self) -> bool:
        """Whether all checks in ``alive`` hold. If so, a restart would not help."""
        return all(check.well for check in self.alive)

    @property
    def is_ready(self) -> bool:
        """Whether the process can take new work. A process that is not live is not ready either."""
        return self.is_live and all(check.well for check in self.able)

    def live(self) -> dict[str, object]:
        """The response to ``/health/live``."""
        return _shown({"status": "live" if self.is_live else "dead", "reasons": _reasons(self.alive)})

    def ready(self) -> dict[str, object]:
        """The response to ``/health/ready``."""
        return _shown(
            {
                "status": "ready" if self.is_ready else "unready",
                "reasons": _reasons((*self.alive, *self.able)),
                "remarks": list(self.remarks),
            }
        )

    def whole(self) -> dict[str, object]:
        """The response to ``/health``."""
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
    """The routes ``/health/live``, ``/health/ready`` and ``/health``: 200 if the answer is yes, else 503."""

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


def _shown(facts: dict[str, object]) -> dict[str, object]:
    """Mask credentials: reasons quote errors, and errors quote URLs."""
    return {name: masked_within(value) for name, value in facts.items()}


def _reasons(checks: tuple[Check, ...]) -> list[str]:
    return [f"{check.name}: {check.reason}" if check.reason else check.name for check in checks if not check.well]
