"""Prints the exact versions, as they are installed here, of what the project needs at run time and for its tests.

``pip freeze`` would also list the tools of releases, of the documents' site and of mutation tests, if one of them was
made here. Users and the image would then be held to versions of packages that they do not need.
"""

import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
EXTRA = "local"
HEAD = "# Exact versions of all that the tests ran with; renewed by: make constraints"


def declared(root: Path = ROOT) -> list[str]:
    """What ``make install`` asks for: the project with its extra, and the group ``dev``."""
    file = tomllib.loads((root / "pyproject.toml").read_text())
    project = file["project"]
    return [*project["dependencies"], *project["optional-dependencies"][EXTRA], *file["dependency-groups"]["dev"]]


def reached(requirements: Iterable[str]) -> dict[str, str]:
    """Name and version of each installed package that these need, directly or not."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [one for text in requirements for one in _wanted(text, "")]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            package = distribution(name)
        except PackageNotFoundError:
            raise SystemExit(f"{name} is not installed here; run: make install") from None
        found[package.metadata["Name"]] = package.version
        waiting += [one for text in package.requires or () for one in _wanted(text, extra)]
    return found


def _wanted(text: str, extra: str) -> Iterator[tuple[str, str]]:
    """The package of a requirement, without an extra and with each that it names, if it applies here."""
    one = Requirement(text)
    if one.marker is None or one.marker.evaluate({"extra": extra}):
        name = canonicalize_name(one.name)
        yield from ((name, each) for each in ("", *sorted(one.extras)))


def main() -> None:
    """Print them."""
    lines = (f"{name}=={version}" for name, version in reached(declared()).items())
    print("\n".join([HEAD, *sorted(lines, key=str.lower)]))


if __name__ == "__main__":
    main()
