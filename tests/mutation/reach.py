"""Which tests reach which line, and how long each takes: measured once for a state of the repository, then kept."""

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
from coverage import CoverageData

TESTS = (
    "tests/unit",
    "tests/property",
    "tests/contract",
    "tests/simulation",
    "tests/faults",
    "tests/end_to_end/listener",
)
"""Of those that ``make test`` runs, the ones that run our code in pytest's own process: coverage cannot say which test
reached a line in another process. Where these let a mutant live, the others may still notice it."""

MOST_SECONDS = 60.0
"""So long may the tests of one mutant take together, measured; the quickest run first."""

SHARED = ""
"""Coverage's name for what runs outside of all tests: at import."""


class Reach(msgspec.Struct):
    """What was measured."""

    tests: list[str]
    seconds: list[float]
    lines: dict[str, dict[str, list[int]]]
    """File, line, numbers of tests."""

    def tests_of(self, file: str, first: int, last: int) -> Sequence[str]:
        """Tests that reach any of these lines; for a line that only an import reaches, all that reach the file."""
        by_line = self.lines.get(file, {})
        some = {one for line in range(first, last + 1) for one in by_line.get(str(line), ())}
        return self._within(some or {one for numbers in by_line.values() for one in numbers})

    def seconds_of(self, tests: Sequence[str]) -> float:
        """How long these took when they were measured."""
        by_name = dict(zip(self.tests, self.seconds, strict=True))
        return sum(by_name[one] for one in tests)

    def _within(self, some: set[int]) -> list[str]:
        chosen, seconds = [], 0.0
        for one in sorted(some, key=lambda one: self.seconds[one]):
            seconds += self.seconds[one]
            if chosen and seconds > MOST_SECONDS:
                break
            chosen.append(self.tests[one])
        return chosen


def measured(root: Path, kept: Path, *, files: Sequence[str], tests: Sequence[str]) -> Reach:
    """From the file, or anew."""
    if kept.exists():
        return msgspec.json.decode(kept.read_bytes(), type=Reach)
    data, report = kept.with_suffix(".coverage"), kept.with_suffix(".xml")
    config = kept.with_suffix(".ini")
    config.write_text("[run]\nsource = listener/pipeline,listener/claims,listener/store,dlq,producer/journal\n")
    command = [
        sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "worksteal", *tests, "--timeout", "180",
        "--cov", "--cov-config", str(config), "--cov-context", "test", "--cov-report", "", f"--junitxml={report}",
    ]  # fmt: skip
    environment = {**os.environ, "COVERAGE_FILE": str(data)}
    subprocess.run(command, cwd=root, env=environment, check=False)  # a test that fails by time does not matter here
    reach = _read(root, data, _seconds(report), files)
    kept.write_bytes(msgspec.json.encode(reach))
    return reach


def _seconds(report: Path) -> Mapping[str, float]:
    """By a name that both reports can be brought to: the file's module and the test's own name."""
    found: dict[str, float] = {}
    for case in ElementTree.parse(report).iter("testcase"):
        if not list(case):  # passed
            found[f"{case.get('classname')}::{case.get('name')}"] = float(case.get("time", "0"))
    return found


def _read(root: Path, data: Path, seconds: Mapping[str, float], files: Sequence[str]) -> Reach:
    coverage = CoverageData(str(data))
    coverage.read()
    numbers: dict[str, int] = {}
    lines: dict[str, dict[str, list[int]]] = {}
    for file in files:
        by_line: dict[str, list[int]] = defaultdict(list)
        for line, contexts in coverage.contexts_by_lineno(str(root / file)).items():
            tests = {context.partition("|")[0] for context in contexts} - {SHARED}
            known = [one for one in sorted(tests) if _key(one) in seconds]
            by_line[str(line)] = [numbers.setdefault(one, len(numbers)) for one in known]
        lines[file] = dict(by_line)
    return Reach(list(numbers), [seconds[_key(one)] for one in numbers], lines)


def _key(test: str) -> str:
    path, _, name = test.partition("::")
    return f"{path.removesuffix('.py').replace('/', '.')}::{name}"
