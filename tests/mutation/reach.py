"""Which tests reach which line, and how long each test takes. Measured once, and kept while it is valid."""

import hashlib
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
from coverage import CoverageData

from tests.mutation.trial import function_of

TESTS = ("tests/unit", "tests/property", "tests/contract", "tests/simulation/test_simulation.py")
"""The tests of ``make test`` that are quick, do not depend on the clock, and run our code in pytest's own process.
Coverage cannot tell which test reached a line in another process. A mutant that survives these may still be noticed
by the others."""

HUNT = "tests/simulation/test_simulation.py::test_the_law_holds_in_every_schedule"
HUNTED = ("listener/pipeline/", "listener/claims/")
HUNT_SECONDS = 15.0
"""It runs in separate processes, so no measurement shows which lines it reaches."""

MOST_SECONDS = 20.0

SHARED = ""
"""Coverage's name for code that runs outside of all tests: at import."""


class Unsound(Exception):
    """Tests fail on unchanged code."""


class Reach(msgspec.Struct):
    """The measurement."""

    keys: dict[str, str]
    """For each test file, the state in which it was measured."""
    seconds: dict[str, float]
    lines: dict[str, dict[str, list[str]]]
    """File, line, tests."""

    def tests_of(self, root: Path, file: str, changed: range, function: range, most: float) -> list[str]:
        """Tests that reach a changed line, then those that reach its function, because coverage loses a coroutine into
        which an exception was thrown. Outside of functions coverage sees only the import: there, tests that name the
        module, then all that reach the file. Of each kind the quickest, for ``most`` seconds in total."""
        by_line = {int(line): tests for line, tests in self.lines.get(file, {}).items()}
        near = {one for line in changed for one in by_line.get(line, ())}
        if function:
            named, further = set[str](), {one for line in function for one in by_line.get(line, ())}
        else:
            named = self._naming(root, f"unlost.{file.removesuffix('.py').replace('/', '.')}")
            further = {one for tests in by_line.values() for one in tests}
        groups = (near, named - near, further - named - near)
        chosen = [test for group in groups for test in self._within(group, most)]
        return [*chosen, HUNT] if chosen and file.startswith(HUNTED) else chosen

    def seconds_of(self, tests: Iterable[str]) -> float:
        """How long these tests took when they were measured."""
        return sum(HUNT_SECONDS if one == HUNT else self.seconds.get(one, MOST_SECONDS) for one in tests)

    def without(self, files: Iterable[str]) -> "Reach":
        """The measurement without these test files."""
        gone = set(files)
        seconds = {test: one for test, one in self.seconds.items() if _file_of(test) not in gone}
        lines = {
            file: {line: [one for one in tests if one in seconds] for line, tests in by_line.items()}
            for file, by_line in self.lines.items()
        }
        return Reach({file: key for file, key in self.keys.items() if file not in gone}, seconds, lines)

    def _naming(self, root: Path, module: str) -> set[str]:
        files = {_file_of(test) for test in self.seconds}
        room, _, name = module.rpartition(".")
        named = re.compile(rf"\b{re.escape(module)}\b|from {re.escape(room)} import .*\b{name}\b")
        some = {file for file in files if (root / file).is_file() and named.search((root / file).read_text("utf-8"))}
        return {test for test in self.seconds if _file_of(test) in some}

    def _within(self, some: set[str], most: float) -> list[str]:
        chosen: list[str] = []
        seconds = 0.0
        for one in sorted(some - {HUNT}, key=lambda one: (self.seconds[one], one)):
            seconds += self.seconds[one]
            if chosen and seconds > most:
                break
            chosen.append(one)
        return chosen


def measured(root: Path, kept: Path, files: Sequence[str]) -> Reach:
    """Read the measurement from the file, and measure again what has changed since."""
    wanted = _keys(root)
    reach = _kept(kept)
    reach = reach.without(file for file in reach.keys if wanted.get(file) != reach.keys[file])
    stale = sorted(set(wanted) - set(reach.keys))
    if stale:
        _measure(root, kept, stale, files, reach)
        reach.keys = wanted
        kept.write_bytes(msgspec.json.encode(reach))
    return reach


def state(root: Path) -> str:
    """A digest of everything that a test depends on."""
    return digest(root, ["unlost", "listener", "dlq", "producer", "ops", "tests", ":!tests/mutation"])


def _kept(kept: Path) -> Reach:
    return msgspec.json.decode(kept.read_bytes(), type=Reach) if kept.exists() else Reach({}, {}, {})


def _keys(root: Path) -> dict[str, str]:
    """The inputs of each test file's measurement: the code, and the file itself."""
    shared = digest(root, ["listener", "dlq", "producer", "ops", "tests/support", "tests/simulation"])
    files = sorted({path for test in TESTS for path in _test_files(root / test)})
    return {str(path.relative_to(root)): _sha(shared.encode() + path.read_bytes()) for path in files}


def _test_files(path: Path) -> Iterable[Path]:
    return path.rglob("test_*.py") if path.is_dir() else [path]


def digest(root: Path, paths: Sequence[str]) -> str:
    """A digest of the contents of these paths."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *paths]
    listed = subprocess.run(command, cwd=root, capture_output=True, check=True, text=True).stdout.split("\0")
    names = sorted({name for name in listed if name and (root / name).is_file()})
    return _sha(b"".join(name.encode() + _sha((root / name).read_bytes()).encode() for name in names))


def _sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _measure(root: Path, kept: Path, tests: Sequence[str], files: Sequence[str], into: Reach) -> None:
    data, report, config = (kept.with_suffix(end) for end in (".coverage", ".xml", ".ini"))
    config.write_text("[run]\nsource = listener/pipeline,listener/claims,listener/store,dlq,producer/journal\n")
    command = [
        sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "worksteal", *tests, "--timeout", "180",
        "--cov", "--cov-config", str(config), "--cov-context", "test", "--cov-report", "", f"--junitxml={report}",
    ]  # fmt: skip
    environment = {**os.environ, "COVERAGE_FILE": str(data), "SIMULATION_SCHEDULES": "50"}
    subprocess.run(command, cwd=root, env=environment, check=False, stdout=subprocess.DEVNULL)
    seconds, failed = _outcomes(report)
    _alone(root, failed)
    into.seconds.update(seconds)
    for file in files:
        by_line: dict[str, list[str]] = defaultdict(list, into.lines.get(file, {}))
        for line, found in _contexts(data, root / file):
            by_line[line] += sorted(found & seconds.keys())
        into.lines[file] = dict(by_line)


def _alone(root: Path, failed: Sequence[str]) -> None:
    """Failures by timing pass when run alone, and kill nothing. A repeated failure must be fixed first."""
    if failed:
        command = [sys.executable, "-m", "pytest", "-q", "-n", "0", *failed]
        environment = {**os.environ, "SIMULATION_SCHEDULES": "50"}
        done = subprocess.run(command, cwd=root, env=environment, check=False, capture_output=True, text=True)
        if done.returncode:
            raise Unsound(f"tests fail without any mutant; no score would mean anything:\n{done.stdout[-3000:]}")


def _outcomes(report: Path) -> tuple[Mapping[str, float], Sequence[str]]:
    """The seconds of each passed test, with all its parameters, and the failed tests."""
    seconds: dict[str, float] = defaultdict(float)
    failed = set()
    for case in ElementTree.parse(report).iter("testcase"):
        test = function_of(f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}")
        seconds[test] += float(case.get("time", "0"))
        if case.find("failure") is not None or case.find("error") is not None:
            failed.add(test)
    return {test: one for test, one in seconds.items() if test not in failed}, sorted(failed)


def _contexts(data: Path, file: Path) -> Iterable[tuple[str, set[str]]]:
    coverage = CoverageData(str(data))
    coverage.read()
    for line, contexts in coverage.contexts_by_lineno(str(file)).items():
        # A test that reaches a line itself says more than one that reaches it in its setup: nearly all migrate a
        # schema.
        itself = [context for context in contexts if context.endswith("|run")]
        yield str(line), {function_of(context.partition("|")[0]) for context in itself or contexts} - {SHARED}


def _file_of(test: str) -> str:
    return test.partition("::")[0]
