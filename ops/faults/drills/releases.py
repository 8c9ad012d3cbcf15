"""The versions between which a system is upgraded: this one, and an earlier one in an environment of its own."""

import asyncio
import os
import subprocess
import sys
import venv
from dataclasses import dataclass
from pathlib import Path

from unlost.ops.faults.drills.stage import StageError
from unlost.ops.kit.command import UsageProblem
from unlost.ops.kit.telemetry.mask import masked
from unlost.ops.system.layout import executable

INSTALLED_WITHIN = 600.0
ANSWERS_WITHIN = 30.0


@dataclass(frozen=True, slots=True)
class Release:
    """One version. ``name`` says which it is, and where."""

    programs: Path
    """The directory with ``unlost``."""
    name: str


def release_before(given: str | None, directory: Path) -> Release:
    """The version to upgrade from: an environment, or what pip installs under this name into ``directory``.

    Without a name, it is this version itself. Raises ``UsageProblem``.
    """
    if given is None:
        programs = executable("unlost").parent
        return Release(programs, f"{_version(programs)}, the same version (--from names an earlier one)")
    environment = Path(given)
    if environment.is_dir() and (environment / "bin").is_dir():
        programs = (environment / "bin").absolute()
    else:
        programs = _installed(given, directory) / "bin"
    return Release(programs, f"{_version(programs)} from {masked(given)}")


def _installed(requirement: str, directory: Path) -> Path:
    """Make an environment with this requirement, by the pip of this one."""
    venv.create(directory)
    pip = [sys.executable, "-m", "pip", "--python", str(directory), "--disable-pip-version-check"]
    try:
        done = subprocess.run(
            [*pip, "install", "--quiet", requirement],
            capture_output=True, text=True, timeout=INSTALLED_WITHIN, check=False,
        )  # fmt: skip
        said = done.stderr.strip().splitlines() if done.returncode else []
        why = said[-1] if said else f"exit code {done.returncode}" if done.returncode else ""
    except subprocess.TimeoutExpired:
        why = f"it had not ended after {INSTALLED_WITHIN:g} s"
    if why:
        raise UsageProblem(masked(f"--from: {requirement} is no environment, and pip does not install it: {why}"))
    return directory


def _version(programs: Path) -> str:
    """What ``unlost --version`` prints there."""
    program = programs / "unlost"
    try:
        done = subprocess.run(
            [program, "--version"], capture_output=True, text=True, timeout=ANSWERS_WITHIN, check=False
        )
        said = "" if done.returncode else done.stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        said = ""
    if not said:
        raise UsageProblem(f"--from: {program} does not say its version")
    return said


async def migrated(database_url: str) -> int:
    """Run ``unlost migrate`` of this version, and return how many migrations it applied."""
    process = await asyncio.create_subprocess_exec(
        executable("unlost"), "migrate", env={**os.environ, "DATABASE_URL": database_url},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    said = out.decode(errors="replace")
    if process.returncode:
        raise StageError(f"unlost migrate ended with {process.returncode}: {said[-300:]}")
    return sum(line.startswith("applied ") for line in said.splitlines())
