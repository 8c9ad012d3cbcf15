"""The provenance of a release, in the form of SLSA: which files were built, from which commit, with what.

It is a statement without a signature: the publisher of a release signs this file.
"""

import hashlib
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.release.vulnerabilities import Checked, NotChecked

STATEMENT, PREDICATE = "https://in-toto.io/Statement/v1", "https://slsa.dev/provenance/v1"


STATEMENT_TYPE = "_" + "type"


def provenance(
    root: Path,
    files: Sequence[Path],
    inputs: Iterable[Path],
    checked: Checked | NotChecked,
    *,
    tools: Mapping[str, str],
) -> Mapping[str, Any]:
    """Describe these files."""
    commit = _git(root, "rev-parse", "HEAD")
    return {
        STATEMENT_TYPE: STATEMENT,
        "subject": [{"name": one.name, "digest": {"sha256": _sha256(one)}} for one in files],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": "make release",
                "externalParameters": {
                    "commit": commit,
                    "changed_files": _git(root, "status", "--porcelain").splitlines(),
                },
                "resolvedDependencies": [
                    {"uri": "git+HEAD", "digest": {"gitCommit": commit}},
                    *({"name": one.name, "digest": {"sha256": _sha256(one)}} for one in inputs),
                ],
            },
            "runDetails": {
                "builder": {"id": "a developer's machine", "version": {"python": platform.python_version(), **tools}},
                "byproducts": [{"name": "vulnerabilities", "annotations": {"result": _result(checked)}}],
            },
        },
    }


def _result(checked: Checked | NotChecked) -> str:
    if isinstance(checked, NotChecked):
        return f"not checked: {checked.why}"
    return f"checked: {'; '.join(checked.found) or 'none known'}"


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def _git(root: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()
