"""Known vulnerabilities of packages, from a service that speaks OSV's interface. It never reports "none" by mistake.

Each query also asks about a package that is known to be vulnerable. If the service does not report that one, it knows
nothing, or is something else. Then the result is ``NotChecked``. ``OSV_URL`` names another service.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import httpx

URL = "https://api.osv.dev"
PATIENCE = 20.0
LONGEST_ANSWER = 4 * 1024 * 1024
MOST_NAMED = 20
CANARY = ("jinja2", "2.4.1")
"""A version with several advisories, which will stay known."""


@dataclass(frozen=True, slots=True)
class Checked:
    """The service knows the packages."""

    found: tuple[str, ...]
    """A sentence for each package with a known vulnerability."""


@dataclass(frozen=True, slots=True)
class NotChecked:
    """Nothing is known, and why."""

    why: str


def check(packages: Sequence[tuple[str, str]], url: str = "") -> Checked | NotChecked:
    """Ask about all packages at once."""
    url = url or os.environ.get("OSV_URL", URL)
    asked = [*packages, CANARY]
    queries = [{"package": {"name": name, "ecosystem": "PyPI"}, "version": version} for name, version in asked]
    try:
        with httpx.Client(timeout=PATIENCE) as client:
            answer = client.post(f"{url}/v1/querybatch", json={"queries": queries})
        answer.raise_for_status()
        if len(answer.content) > LONGEST_ANSWER:
            return NotChecked(f"{url} answered with more than {LONGEST_ANSWER:,} bytes")
        found = [[str(one["id"]) for one in result.get("vulns", ())] for result in answer.json()["results"]]
    except (httpx.HTTPError, OSError) as error:
        return NotChecked(f"{url} cannot be asked: {error or type(error).__name__}")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return NotChecked(f"{url} does not answer as OSV does")
    if len(found) != len(asked) or not found[-1]:
        return NotChecked(f"{url} does not know the advisories of {' '.join(CANARY)}, so it knows nothing")
    return Checked(tuple(_sentence(*one, ids) for one, ids in zip(packages, found, strict=False) if ids))


def _sentence(name: str, version: str, ids: Sequence[str]) -> str:
    more = f" and {len(ids) - MOST_NAMED} more" if len(ids) > MOST_NAMED else ""
    return f"{name} {version}: {', '.join(ids[:MOST_NAMED])}{more}"
