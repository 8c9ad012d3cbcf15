"""The bill of materials of a release (CycloneDX), and the licences in it.

It lists what a clean environment holds after an installation with hashes: what users get, and not what was meant.
"""

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ALLOWED = frozenset((
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MIT-0", "MPL-2.0", "PSF-2.0", "Python-2.0",
    "Unlicense", "Zlib", "License :: OSI Approved :: Apache Software License", "License :: OSI Approved :: BSD License",
    "License :: OSI Approved :: MIT License", "License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)",
))  # fmt: skip
"""Each allows use in any program. MPL-2.0 asks only for changes of its own files."""
WORDS = frozenset(("AND", "OR", "(", ")"))
OF_THE_ENVIRONMENT = frozenset(("pip", "setuptools"))
"""A virtual environment brings them along."""

Bill = Mapping[str, Any]


def write_bill(python: Path, file: Path) -> Bill:
    """Write the bill of what this environment holds, and return it. The tool validates it."""
    tool = [sys.executable, "-m", "cyclonedx_py", "environment", str(python), "--output-reproducible", "-o", str(file)]
    subprocess.run(tool, check=True, capture_output=True)
    bill: dict[str, Any] = json.loads(file.read_bytes())
    bill["components"] = [one for one in bill["components"] if one["name"] not in OF_THE_ENVIRONMENT]
    file.write_text(json.dumps(bill, indent=1) + "\n")
    return bill


def packages(bill: Bill) -> list[tuple[str, str]]:
    """Name and version of each package in a bill."""
    return [(one["name"], one["version"]) for one in bill["components"]]


def wrong_licences(bill: Bill) -> Iterator[str]:
    """A sentence for each package whose licence is missing or not allowed."""
    for one in bill["components"]:
        found = sorted(_licences(one))
        if not found:
            yield f"{one['name']} {one['version']} declares no licence"
        elif strange := [name for name in found if name not in ALLOWED]:
            yield f"{one['name']} {one['version']} has a licence that is not allowed here: {', '.join(strange)}"


def _licences(component: Mapping[str, Any]) -> set[str]:
    found = set()
    for choice in component.get("licenses", ()):
        licence = choice.get("license", {})
        words = choice.get("expression", "").replace("(", " ( ").replace(")", " ) ").split()
        found |= {word for word in words if word not in WORDS}
        found |= {name for name in (licence.get("id"), licence.get("name")) if name}
    return found
