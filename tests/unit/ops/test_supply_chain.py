"""The supply chain: pinned hashes, allowed licences, a check that never says "none" by mistake, and the provenance."""

import json
import re
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.release.bill import packages, wrong_licences
from tests.release.constraints import declared, reached
from tests.release.provenance import provenance
from tests.release.vulnerabilities import CANARY, Checked, NotChecked, check

ROOT = Path(__file__).parents[3]
CONTAINER = ROOT / "ops" / "deploy" / "container"
ENTRY = re.compile(r"^(\S+)==(\S+?)(?: ;[^\\]*)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PINNED = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if re.match(r"^[\w.-]+==", line)
)


@pytest.mark.parametrize("name", ["requirements.txt", "build-requirements.txt"])
def test_the_images_requirements_are_pinned_by_hash_and_name_no_index(name: str):
    text = (CONTAINER / name).read_text()
    entries = ENTRY.findall(text)
    assert entries
    assert ENTRY.sub("", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)) == "", "each line belongs to a pinned package"


def test_the_image_installs_the_versions_that_the_tests_ran_with():
    entries = {
        canonicalize_name(name): version
        for name, version, _ in ENTRY.findall((CONTAINER / "requirements.txt").read_text())
    }
    pinned = {canonicalize_name(name): version for name, version in PINNED.items()}
    assert {name: version for name, version in entries.items() if pinned[name] != version} == {}
    extras = PROJECT["optional-dependencies"]
    needed = [*PROJECT["dependencies"], *extras["codec"], *extras["oidc"]]
    assert {canonicalize_name(Requirement(one).name) for one in needed} <= set(entries)


def test_only_what_run_time_and_tests_need_is_pinned():
    """Tools of releases, of the site and of mutation tests may be installed here too."""
    needed = {canonicalize_name(one) for one in reached(declared(ROOT))}
    pinned = {canonicalize_name(one) for one in PINNED}
    assert needed <= pinned
    files = [ROOT / "tests" / kind / "requirements.txt" for kind in ("release", "mutation")]
    lines = [line for file in files for line in file.read_text().splitlines() if line and not line.startswith("#")]
    tools = {canonicalize_name(Requirement(line).name) for line in lines}
    assert {"uv", "twine"} <= tools
    assert tools & pinned <= needed


def test_a_package_that_nothing_needs_is_not_reached():
    assert {"pytest", "pluggy"} <= set(reached(["pytest>=9"]))
    assert not {"click", "asyncpg"} & set(reached(["pytest>=9"]))
    assert "lz4" not in reached(["redis[nothing]; python_version < '3'"])
    assert set(reached(["httpx"])) < set(reached(["httpx", "kubernetes-validate[nothing]"]))
    with pytest.raises(SystemExit, match="no-such-package is not installed"):
        reached(["no-such-package"])


IMAGE = re.compile(r"^\s*(?:image:|FROM) (\S+)(?: AS \w+)?$", re.MULTILINE)
DIGEST = re.compile(r":v?\d[\w.-]*@sha256:[0-9a-f]{64}$")
FROM_ELSEWHERE = "{{"


def images() -> list[tuple[str, str]]:
    """Return each image that a file names, with that file. Templates of the chart take theirs from values."""
    deploy = ROOT / "ops" / "deploy"
    files = [ROOT / "Dockerfile", ROOT / "docker-compose.yml", *deploy.rglob("*.yml"), *deploy.rglob("*.yaml")]
    found = [(file.name, one) for file in files for one in IMAGE.findall(file.read_text())]
    return [(name, one) for name, one in found if FROM_ELSEWHERE not in one]


def test_each_image_of_others_is_pinned_by_a_version_and_a_digest_and_ours_has_this_version():
    assert {name for name, _ in images()} == {
        "Dockerfile", "docker-compose.yml", "ha.yml", "unlost.yaml", "values.yaml",
    }  # fmt: skip
    ours = {one for _, one in images() if one.startswith("unlost:")}
    assert ours == {f"unlost:{PROJECT['version']}"}, "built here, so its digest exists only once somebody has pushed it"
    assert [one for one in images() if one[1] not in ours and not DIGEST.search(one[1])] == []


def test_one_image_has_one_digest_everywhere():
    pinned: dict[str, set[str]] = {}
    for _, one in images():
        repository, _, digest = one.partition(":")
        pinned.setdefault(repository, set()).add(digest)
    assert len(pinned) >= 7
    assert {name: digests for name, digests in pinned.items() if len(digests) > 1} == {}


def test_the_sdist_holds_every_file_of_the_package():
    lines = [line.split() for line in (ROOT / "MANIFEST.in").read_text().splitlines()]
    grafted = tuple(words[1].removeprefix("unlost/") for words in lines if words[:1] == ["graft"])
    (patterns,) = [words[2:] for words in lines if words[:2] == ["recursive-include", "unlost"]]
    files = [path for top in ("listener", "producer", "dlq", "ops") for path in (ROOT / top).rglob("*.*")]
    kept = [one for one in files if one.is_file() and one.suffix != ".py" and "__pycache__" not in one.parts]
    assert len(kept) > 80
    lacking = [
        str(one)
        for one in kept
        if not any(one.match(pattern) for pattern in patterns) and not str(one.relative_to(ROOT)).startswith(grafted)
    ]
    assert lacking == []


def test_no_folder_of_the_package_is_a_link_to_another_one():
    """setuptools takes a folder that it finds twice only once: the sdist and the wheel would lack one of the two."""
    tops = ("listener", "producer", "dlq", "ops")
    links = [path for top in tops for path in (ROOT / top).rglob("*") if path.is_symlink() and path.is_dir()]
    assert [one for one in links if one.resolve().relative_to(ROOT).parts[0] in tops] == []


def component(name: str, *licences: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "version": "1", "licenses": list(licences)}


@pytest.mark.parametrize(
    ("licences", "why"),
    [
        ([{"license": {"id": "MIT"}}], None),
        ([{"license": {"id": "MIT-0"}}], None),
        ([{"expression": "(MIT OR Apache-2.0) AND PSF-2.0"}], None),
        ([], "declares no licence"),
        ([{"license": {"id": "MIT"}}, {"license": {"id": "AGPL-3.0-only"}}], "AGPL-3.0-only"),
        ([{"expression": "MIT OR GPL-3.0-only"}], "GPL-3.0-only"),
    ],
)
def test_each_package_has_a_licence_that_is_allowed(licences: list[dict[str, Any]], why: str | None):
    found = list(wrong_licences({"components": [component("some", *licences)]}))
    assert len(found) == (why is not None)
    assert why is None or why in found[0]


class Service(BaseHTTPRequestHandler):
    """Answers with what a test gives it."""

    answer = b""
    status = 200
    asked: Any = None

    def do_POST(self) -> None:
        type(self).asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.send_response(self.status)
        self.end_headers()
        self.wfile.write(self.answer)

    def log_message(self, *words: object) -> None:
        """Nothing."""


@pytest.fixture
def service() -> Iterator[tuple[type[Service], str]]:
    class One(Service):
        pass

    server = HTTPServer(("127.0.0.1", 0), One)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield One, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


SOME = [("click", "8.5.1"), ("rich", "15.0.0")]
KNOWN = {"vulns": [{"id": "PYSEC-1"}]}


def test_vulnerabilities_are_reported_by_package(service: tuple[type[Service], str]):
    one, url = service
    one.answer = json.dumps({"results": [{}, KNOWN, KNOWN]}).encode()
    assert check(SOME, url) == Checked(("rich 15.0.0: PYSEC-1",))
    assert [query["package"]["name"] for query in one.asked["queries"]] == ["click", "rich", CANARY[0]]
    one.answer = json.dumps({"results": [{}, {}, KNOWN]}).encode()
    assert check(SOME, url) == Checked(())


@pytest.mark.parametrize(
    ("status", "answer", "why"),
    [
        (200, b'{"results":[{},{},{}]}', "knows nothing"),
        (200, b'{"results":[]}', "knows nothing"),
        (200, b'{"results":[{},{"vulns":[{"id":"x"}]}]}', "knows nothing"),
        (200, b"{}", "does not answer as OSV"),
        (200, b"<html>", "does not answer as OSV"),
        (200, b'{"results":[1,2,3]}', "does not answer as OSV"),
        (503, b"", "cannot be asked"),
        (302, b"", "cannot be asked"),
    ],
)
def test_a_service_that_knows_nothing_is_no_green(
    service: tuple[type[Service], str], status: int, answer: bytes, why: str
):
    one, url = service
    one.status, one.answer = status, answer
    shown = check(SOME, url)
    assert isinstance(shown, NotChecked)
    assert why in shown.why


def test_a_service_that_cannot_be_reached_is_no_green():
    assert isinstance(check(SOME, "http://127.0.0.1:1"), NotChecked)


def test_the_provenance_names_files_commit_inputs_and_whether_anything_was_checked(tmp_path: Path):
    wheel = tmp_path / "one.whl"
    wheel.write_bytes(b"abc")
    shown = provenance(ROOT, [wheel], [ROOT / "constraints.txt"], NotChecked("no network"), tools={"build": "1"})
    assert shown["subject"] == [
        {"name": "one.whl", "digest": {"sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}}
    ]
    assert "not checked: no network" in json.dumps(shown)
    assert re.search(r'"commit": "[0-9a-f]{40}"', json.dumps(shown))
    assert packages({"components": [component("a")]}) == [("a", "1")]
