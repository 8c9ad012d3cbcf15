"""``python -m tests.mutation``: try a sample of mutants. What was tried is kept: a run can be stopped and continued."""

import argparse
import datetime
import hashlib
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from tests.mutation.mutants import ROOMS, Mutant, sample
from tests.mutation.reach import TESTS, Reach, measured
from tests.mutation.report import ALIVE, Result, page
from tests.mutation.trial import copied, stopwatch, tried

ROOT = Path(__file__).parents[2]
KEPT = ROOT / ".mutation"
PAGE = ROOT / "docs" / "mutation.md"
BAR = 0.85


def main() -> int:
    """Exit code 1 where fewer than the wanted share were killed."""
    asked = _arguments()
    KEPT.mkdir(exist_ok=True)
    state = _state(asked)
    chosen = list(sample(ROOT, asked.rooms, asked.seed, asked.mutants))
    files = sorted({one.file for one, _ in chosen})
    reach = measured(ROOT, KEPT / f"reach-{state}.json", files=files, tests=asked.tests)
    results = _all_tried(chosen, reach, KEPT / "results.jsonl", state, asked)
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    asked.page.write_text(page(results, date=today, seed=asked.seed, wanted=asked.mutants), encoding="utf-8")
    killed = sum(one.fate not in ALIVE for one in results)
    print(f"{killed} of {len(results)} mutants killed; {asked.page} tells of each survivor")
    return int(killed < BAR * len(results))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description="Try a sample of mutants.")
    parser.add_argument("--seed", type=int, default=1, help="makes the sample again (default: 1)")
    parser.add_argument("--mutants", type=int, default=120, help="size of the sample (default: 120)")
    parser.add_argument("--rooms", nargs="+", default=list(ROOMS), choices=list(ROOMS), help="of which (default: all)")
    parser.add_argument("--tests", nargs="+", default=list(TESTS), help="the tests that may notice (default: many)")
    parser.add_argument("--minutes", type=float, default=45, help="begin no mutant after so long (default: 45)")
    parser.add_argument("--workers", type=int, default=2, help="mutants at once (default: 2)")
    parser.add_argument("--page", type=Path, default=PAGE, help="what is written (default: docs/mutation.md)")
    return parser.parse_args()


def _all_tried(
    chosen: Sequence[tuple[Mutant, str]], reach: Reach, kept: Path, state: str, asked: argparse.Namespace
) -> list[Result]:
    known = {one.mutant.name: one for one in _read(kept) if one.state == state or one.fate not in ALIVE}
    until = stopwatch() + asked.minutes * 60
    writing, copies = threading.Lock(), _Copies()

    def one(mutant: Mutant, text: str) -> Result | None:
        if mutant.name in known:
            return known[mutant.name]
        if stopwatch() > until:
            return None
        last = mutant.line + mutant.before.count("\n")
        tests = reach.tests_of(mutant.file, mutant.line, last)
        result = Result(mutant, state, tried(copies.mine, mutant.file, text, tests, reach.seconds_of(tests)))
        with writing, kept.open("ab") as out:
            out.write(msgspec.json.encode(result) + b"\n")
        print(f"{result.fate:20} {mutant.file}:{mutant.line}  {mutant.after.strip()[:90]}", flush=True)
        return result

    with copies, ThreadPoolExecutor(asked.workers) as threads:
        return [found for found in threads.map(lambda pair: one(*pair), chosen) if found is not None]


class _Copies:
    """A copy of the repository for each thread."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="unlost-mutants-")
        self._local = threading.local()

    def __enter__(self) -> None:
        # Servers that run as another user must get in.
        Path(self._directory.name).chmod(0o755)

    def __exit__(self, *_: object) -> None:
        self._directory.cleanup()

    @property
    def mine(self) -> Path:
        if not hasattr(self._local, "copy"):
            self._local.copy = copied(ROOT, Path(self._directory.name) / str(threading.get_ident()))
        copy: Path = self._local.copy
        return copy


def _read(kept: Path) -> list[Result]:
    if not kept.exists():
        return []
    return [msgspec.json.decode(line, type=Result) for line in kept.read_bytes().splitlines()]


def _state(asked: argparse.Namespace) -> str:
    """Of all that matters. In another state, reach is measured anew and survivors are tried again."""
    paths = ["--", "listener", "dlq", "producer", "ops", "tests", ":!tests/mutation"]
    listed = subprocess.run(["git", "ls-files", "-s", *paths], cwd=ROOT, capture_output=True, check=True)
    changed = subprocess.run(["git", "diff", *paths], cwd=ROOT, capture_output=True, check=True)
    what = repr((listed.stdout, changed.stdout, asked.rooms, asked.tests, asked.seed, asked.mutants))
    return hashlib.sha256(what.encode()).hexdigest()[:12]


if __name__ == "__main__":
    raise SystemExit(main())
