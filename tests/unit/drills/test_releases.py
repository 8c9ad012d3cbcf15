"""What a system is upgraded from: an environment, whatever pip installs, or this version, and the verdict names it."""

import zipfile
from pathlib import Path

import pytest

from unlost.ops.faults.drills.releases import release_before
from unlost.ops.kit.command import UsageProblem
from unlost.ops.system.child import Child
from unlost.ops.system.layout import Layout, executable, free_ports


def environment(directory: Path, *, says: str) -> Path:
    """An environment whose only program prints this."""
    (directory / "bin").mkdir(parents=True)
    program = directory / "bin" / "unlost"
    program.write_text(f"#!/bin/sh\n{says}\n")
    program.chmod(0o700)
    return directory


def wheel(directory: Path) -> Path:
    """A wheel of another version, without dependencies."""
    info = "unlost-0.0.1.dist-info"
    files = {
        "unlost.py": "def main(): print('unlost 0.0.1')",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: unlost\nVersion: 0.0.1\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\nunlost = unlost:main\n",
        f"{info}/RECORD": "",
    }
    path = directory / "unlost-0.0.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as made:
        for name, text in files.items():
            made.writestr(name, text)
    return path


def test_without_a_name_both_versions_are_this_one_and_the_verdict_says_so(tmp_path: Path):
    release = release_before(None, tmp_path / "before")
    assert release.programs / "unlost" == executable("unlost")
    assert release.name.startswith("unlost ")
    assert "the same version (--from names an earlier one)" in release.name


def test_an_environment_is_used_where_it_is(tmp_path: Path):
    given = environment(tmp_path / "old", says="echo unlost 0.1.0")
    release = release_before(str(given), tmp_path / "before")
    assert (release.programs, release.name) == (given / "bin", f"unlost 0.1.0 from {given}")
    assert not (tmp_path / "before").exists()


def test_a_wheel_gets_an_environment_of_its_own(tmp_path: Path):
    given = wheel(tmp_path)
    release = release_before(str(given), tmp_path / "before")
    assert release.programs.parent == tmp_path / "before"
    assert release.name == f"unlost 0.0.1 from {given}"


@pytest.mark.parametrize("says", ["exit 3", ""], ids=["fails", "says nothing"])
def test_an_environment_whose_program_does_not_run_is_misuse(tmp_path: Path, says: str):
    given = environment(tmp_path / "old", says=says)
    with pytest.raises(UsageProblem, match=f"--from: {given}/bin/unlost does not say its version"):
        release_before(str(given), tmp_path / "before")


def test_what_is_neither_is_misuse(tmp_path: Path):
    with pytest.raises(UsageProblem, match=r"missing\.whl is no environment, and pip does not install it: ERROR"):
        release_before(str(tmp_path / "missing.whl"), tmp_path / "before")


def test_processes_run_the_earlier_version_until_their_program_is_replaced(tmp_path: Path):
    old = environment(tmp_path / "old", says='echo "old $@"')
    new = environment(tmp_path / "new", says='echo "new $@"')
    (listener,) = Layout(tmp_path, free_ports(1), programs=old / "bin").listeners("postgresql://h/d", "redis://h")

    assert said(listener) == "old listener"
    listener.replace_program(new / "bin" / "unlost")
    assert said(listener) == "old listener\nnew listener"


def said(child: Child) -> str:
    """Run it to its end, and return its log."""
    child.start()
    child.ended(30)
    return child.tail()
