"""A short description of the machine, without which figures mean nothing."""

import os
import platform
from pathlib import Path

import psutil


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


def described() -> dict[str, str | int | float]:
    """Describe the machine and its present load."""
    return {
        "cores": cores(),
        "processor": _model(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
    }


def _model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
