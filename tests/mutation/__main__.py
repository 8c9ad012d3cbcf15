"""``python -m tests.mutation``: try a sample of mutants. Results are kept, so a run can be stopped and continued."""

import argparse
import datetime
import hashlib
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from tests.mutation.mutants import ROOMS, Mutant, files_of, lines_of, sample
from tests.mutation.reach import MOST_SECONDS, Reach, Unsound, digest, measured, state
from tests.mutation.report import ALIVE, Result, Run, page
from tests.mutation.trial import Answer, Fate, Runner, function_of, stopwatch

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".mutation"
PAGE = ROOT / "docs" / "mutation.md"
BAR = 0.85


def main() -> int:
    """Exit code 1 if fewer than the required share were killed, 2 if tests fail without a mutant."""
    asked, commit = _arguments(), _commit()
    KEPT.mkdir(exist_ok=True)
    samples = {seed: _sampled(asked, seed) for seed in asked.seeds}
    try:
        reach = measured(ROOT, KEPT / "reach.json", [file for room in ROOMS for file in files_of(ROOT, room)])
        session = _Session(asked, reach, [pair for pairs in samples.values() for pair in pairs])
        results = session.results()
    except Unsound as unsound:
        print(unsound, file=sys.stderr)
        return 2
    runs = [Run(seed, [results[mutant.name] for mutant, _ in pairs]) for seed, pairs in samples.items()]
    if asked.page:
        asked.page.write_text(_page(asked, commit, runs), encoding="utf-8")
    for run in runs:
        print(f"seed {run.seed}: {run.killed} of {len(run.results)} mutants killed, {100 * run.share:.1f} %")
    return int(any(run.share < BAR for run in runs))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description="Try a sample of mutants.")
    parser.add_argument(
        "--seeds", type=int, nargs="+", default=[7], help="each gives a reproducible sample (default: 7)"
    )
    parser.add_argument("--mutants", type=int, default=30, help="mutants per room (default: 30)")
    parser.add_argument(
        "--rooms", nargs="+", default=list(ROOMS), choices=list(ROOMS), help="rooms to mutate (default: all)"
    )
    parser.add_argument("--seconds", type=float, default=MOST_SECONDS, help="seconds of tests per mutant (default: 20)")
    parser.add_argument("--workers", type=int, default=2, help="mutants tried at once (default: 2)")
    parser.add_argument("--page", type=Path, help=f"write the results to this page, such as {PAGE.relative_to(ROOT)}")
    return parser.parse_args()


def _sampled(asked: argparse.Namespace, seed: int) -> Sequence[tuple[Mutant, str]]:
    """The sample is kept in a file, because making all mutants takes half a minute."""
    files = [file for room in asked.rooms for file in files_of(ROOT, room)]
    kept = KEPT / f"sample-{digest(ROOT, [*files, 'tests/mutation/mutants.py'])}-{seed}-{asked.mutants}.json"
    if not kept.exists():
        kept.write_bytes(msgspec.json.encode(list(sample(ROOT, asked.rooms, seed, asked.mutants))))
    return msgspec.json.decode(kept.read_bytes(), type=list[tuple[Mutant, str]])


class _Session:
    """Runs a few runners in parallel, and collects their results."""

    def __init__(self, asked: argparse.Namespace, reach: Reach, chosen: Sequence[tuple[Mutant, str]]) -> None:
        self._asked, self._reach, self._chosen = asked, reach, chosen
        self._state = f"{state(ROOT)} {asked.seconds:g}"
        self._kept = KEPT / "results.jsonl"
        self._known = {one.mutant.name: one for one in self._read(dict(chosen))}
        self._free: queue.SimpleQueue[Runner] = queue.SimpleQueue()
        self._writing = threading.Lock()

    def results(self) -> Mapping[str, Result]:
        """The results of the whole sample: known ones, and those tried now."""
        new = [pair for pair in self._chosen if pair[0].name not in self._known]
        with tempfile.TemporaryDirectory(prefix="unlost-mutants-") as directory:
            Path(directory).chmod(0o755)  # PostgreSQL may run as another user
            runners = [Runner(ROOT, Path(directory) / str(number)) for number in range(self._asked.workers)]
            try:
                self._try(runners, new)
                self._check_killers(runners)
            finally:
                for runner in runners:
                    runner.stop()
        return self._known

    def _check_killers(self, runners: Sequence[Runner]) -> None:
        """Check that each test that killed a mutant passes on unchanged code."""
        tests = sorted({function_of(one.by) for one in self._known.values() if one.by})
        shares = [tests[number :: len(runners)] for number in range(len(runners))]
        with ThreadPoolExecutor(len(runners)) as threads:
            for answer in threads.map(self._unchanged, runners, shares):
                if answer.fate is not Fate.SURVIVED:
                    self._forget(answer.by)
                    raise Unsound(f"without any mutant, {answer.by or 'some test'} fails: no score would mean anything")

    def _forget(self, test: str) -> None:
        """The mutants that this test seemed to kill are tried again in the next run."""
        lines = self._kept.read_bytes().splitlines(keepends=True)
        kept = [line for line in lines if function_of(msgspec.json.decode(line, type=Result).by) != function_of(test)]
        self._kept.write_bytes(b"".join(kept))

    def _unchanged(self, runner: Runner, tests: Sequence[str]) -> Answer:
        if not tests:
            return Answer(Fate.SURVIVED, "")
        return runner.unchanged(self._chosen[0][0].file, tests, self._reach.seconds_of(tests))

    def _try(self, runners: Sequence[Runner], new: Sequence[tuple[Mutant, str]]) -> None:
        for runner in runners:
            self._free.put(runner)
        with ThreadPoolExecutor(len(runners)) as threads:
            for result in threads.map(lambda pair: self._one(*pair), new):
                self._known[result.mutant.name] = result

    def _one(self, mutant: Mutant, text: str) -> Result:
        runner, begun = self._free.get(), stopwatch()
        try:
            tests = self._tests_of(mutant)
            answer = runner.tried(mutant.file, text, tests, self._reach.seconds_of(tests))
        finally:
            self._free.put(runner)
        held = self._state if answer.fate in ALIVE else _proof(text, answer.by)
        result = Result(mutant, held, answer.fate, answer.by, stopwatch() - begun)
        with self._writing, self._kept.open("ab") as out:
            out.write(msgspec.json.encode(result) + b"\n")
        print(f"{result.seconds:6.1f} s  {result.fate:18} {mutant.file}:{mutant.line}  {answer.by}", flush=True)
        return result

    def _tests_of(self, mutant: Mutant) -> Sequence[str]:
        text = (ROOT / mutant.file).read_text(encoding="utf-8")
        return self._reach.tests_of(ROOT, mutant.file, *lines_of(text, mutant), self._asked.seconds)

    def _read(self, texts: Mapping[Mutant, str]) -> Iterator[Result]:
        """Results that are still valid: survivors while nothing changed, others while file and test are unchanged."""
        for line in self._kept.read_bytes().splitlines() if self._kept.exists() else ():
            one = msgspec.json.decode(line, type=Result)
            text = texts.get(one.mutant)
            if text is not None and one.holds == (self._state if one.fate in ALIVE else _proof(text, one.by)):
                yield one


def _proof(text: str, by: str) -> str:
    file = ROOT / by.partition("::")[0]
    return hashlib.sha256(text.encode() + (file.read_bytes() if file.is_file() else b"")).hexdigest()[:16]


def _commit() -> str:
    done = subprocess.run(["git", "rev-parse", "--short=10", "HEAD"], cwd=ROOT, capture_output=True, check=True)
    return done.stdout.decode().strip()


def _page(asked: argparse.Namespace, commit: str, runs: Sequence[Run]) -> str:
    seeds = " ".join(map(str, asked.seeds))
    return page(
        runs,
        commit=commit,
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        command=f'make mutate ARGS="--seeds {seeds} --mutants {asked.mutants} --page docs/mutation.md"',
        took=f"{sum(one.seconds for run in runs for one in run.results) / asked.workers / 60:.0f} minutes",
    )


if __name__ == "__main__":
    raise SystemExit(main())
