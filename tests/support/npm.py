"""Packages from npm, exactly those of a lock file."""

import shutil
import subprocess
from pathlib import Path

from tests.support.needed import needed

INSTALL_WITHIN = 240
OPTIONS = ("--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")


def installed(packages: Path, directory: Path) -> Path:
    """Copy the files of the folder ``packages`` to this directory, and install there what their lock file names."""
    npm = needed("npm", package="npm")
    for one in packages.iterdir():
        if one.is_file():
            shutil.copy(one, directory)
    done = subprocess.run(
        [npm, "ci", *OPTIONS], cwd=directory, capture_output=True, text=True, timeout=INSTALL_WITHIN, check=False
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return directory
