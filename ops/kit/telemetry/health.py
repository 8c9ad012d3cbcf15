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
from starlette.types import Scope

from unlost.ops.kit.telemetry.mask import masked_within

HEALTH_PATHS = ("/health", "/health/live", "/health/ready")
"""Open to everybody, since probes have no token."""
WITHOUT_DETAILS = "unlost.without_details"
"""The key of the scope for whether the client gets only yes or no."""


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

    async def live(request: Request) -> JSONResponse:
        health = now()
        return JSONResponse(_for(request.scope, health.live()), 200 if health.is_live else 503)

    async def ready(request: Request) -> JSONResponse:
        health = now()
        return JSONResponse(_for(request.scope, health.ready()), 200 if health.is_ready else 503)

    async def whole(request: Request) -> JSONResponse:
        health = now()
        return JSONResponse(_for(request.scope, health.whole()), 200 if health.is_ready else 503)

    return [Route(path, answer) for path, answer in zip(HEALTH_PATHS, (whole, live, ready), strict=True)]


def _for(scope: Scope, answer: dict[str, object]) -> dict[str, object]:
    """The answer without details for a client without a token: reasons and facts reveal much about a system."""
    if not scope.get(WITHOUT_DETAILS):
        return answer
    return {name: value for name, value in answer.items() if name in ("status", "live", "ready")}


def _shown(facts: dict[str, object]) -> dict[str, object]:
    """Mask credentials: reasons quote errors, and errors quote URLs."""
    return {name: masked_within(value) for name, value in facts.items()}


def _reasons(checks: tuple[Check, ...]) -> list[str]:
    return [f"{check.name}: {check.reason}" if check.reason else check.name for check in checks if not check.well]
