"""Each command of ``dlq``, for people and for programs."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from tests.support.letters import invalid, letter, mark, write
from unlost.dlq.commands.cli import main
from unlost.dlq.record.file import replay_guard
from unlost.dlq.record.letter_line import decode
from unlost.dlq.record.sidecar import states

COMMANDS = (
    "list", "show", "groups", "stats", "replay", "edit", "transform", "archive", "restore", "quarantine", "note",
    "assign", "export", "import", "retention", "compact", "verify",
)  # fmt: skip


def run(*words: object, code: int = 0) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


@pytest.fixture
def path(tmp_path: Path) -> Path:
    some = [
        letter("a", message="no such order 17", type="order"),
        letter("b", message="no such order 4711", type="order", at=1_700_000_050.0),
        letter("c", reason="rejected", message="\x1b[31mred\nalert", error_type="Reject"),
        invalid("d", b"\xffno json"),
    ]
    path = write(tmp_path / "letters.jsonl", some)
    mark(path, "c", "resolved", "stored")
    return path


def test_list_shows_one_letter_a_row_without_tabs_or_escapes(path: Path):
    out = run("list", path).stdout
    heads, *rows = out.splitlines()
    assert heads.split() == ["LETTER", "LAST", "EVENT", "REASON", "STATE", "ERROR"]
    assert [row.split()[0][-1] for row in rows] == ["a", "b", "c", "d"]
    assert "\t" not in out
    assert "\x1b" not in out
    assert r"\x1b[31mred\nalert" in out


def test_list_filters_limits_and_speaks_json(path: Path):
    assert [one["event_id"] for one in json.loads(run("list", path, "--type", "order", "--json").stdout)] == ["a", "b"]
    (last,) = json.loads(run("list", path, "--limit", 1, "--json").stdout)
    assert last["raw_base64"] == "/25vIGpzb24="
    assert run("list", path, "--since", "2030-01-01").stdout == "no letters\n"
    assert "the latest 1 of 4" in run("list", path, "--limit", 1).stderr


def test_show_prints_all_of_a_letter_by_any_of_its_ids(path: Path):
    for wanted in ("a", "0123456789ab-a"):
        out = run("show", wanted, path).stdout
        assert "attempt 1    2023-11-14T22:13:20.000000Z handle transient ValueError: no such order 17" in out
        assert '"event_id": "a"' in out
    (one,) = json.loads(run("show", "c", path, "--json").stdout)
    assert (one["state"]["status"], one["event"]["payload"]) == ("resolved", {"n": 1})
    assert "no letter in" in run("show", "nobody", path, code=2).stderr


def test_groups_put_failures_together_that_differ_in_numbers_alone(path: Path):
    found = json.loads(run("groups", path, "--json").stdout)
    assert (found[0]["letters"], found[0]["waiting"], found[0]["reason"]) == (2, 2, "exhausted")
    assert (found[0]["first_at"], found[0]["last_at"]) == ("2023-11-14T22:13:20.000000Z", "2023-11-14T22:14:10.000000Z")
    assert sum(one["waiting"] for one in found) == 3
    assert found[0]["fingerprint"] in run("groups", path).stdout.splitlines()[1]


def test_stats_count(path: Path):
    reported = json.loads(run("stats", path, "--json").stdout)
    assert (reported["letters"], reported["waiting"], reported["by_state"]) == (4, 3, {"open": 3, "resolved": 1})
    assert "reason    exhausted 2, " in run("stats", path).stdout


def test_archive_puts_aside_and_restore_brings_back(path: Path):
    assert "say which letters" in run("archive", path, "--why", "x", code=2).stderr
    assert run("archive", path, "--id", "a", "--why", "test order").stdout == "archived 1 letter\n"
    assert states(path)["0123456789ab-a"].detail == "test order"
    assert json.loads(run("archive", path, "--all", "--why", "x", "--json").stdout) == {"archived": 2}
    assert json.loads(run("replay", path, "--dry-run", "--json").stdout)["plan"]["letters"] == 0
    assert run("restore", path, "--all").stdout == "restored 3 letters\n"
    assert states(path)["0123456789ab-a"].waits
    assert states(path)["0123456789ab-c"].status == "resolved"


def test_export_writes_events_as_they_came_or_letters(path: Path, tmp_path: Path):
    result = run("export", path, "--state", "open")
    assert [json.loads(line)["event_id"] for line in result.stdout.splitlines()] == ["a", "b"]
    assert "1 hold no valid event" in result.stderr
    run("export", path, "--as", "letters", "--output", tmp_path / "out", "--json")
    assert len([decode(line) for line in (tmp_path / "out").read_bytes().splitlines()]) == 4


def test_compact_drops_the_resolved(path: Path):
    assert json.loads(run("compact", path, "--json").stdout)["dropped"] == 1
    assert "kept 3 letters, dropped 0" in run("compact", path).stdout
    assert states(path) == {}


def test_compact_and_replay_exclude_each_other(path: Path):
    guard = replay_guard(path)
    assert guard.take("pid 1 on here")
    assert "by pid 1 on here" in run("compact", path, code=3).stderr
    assert "by pid 1 on here" in run("replay", path, code=3).stderr
    guard.release()


def test_verify_ends_with_one_where_a_line_is_damaged(path: Path):
    assert run("verify", path).stdout == "4 letters and 1 state are whole, 0 lines damaged\n"
    with path.open("ab") as file:
        file.write(b'{"torn')
    reported = json.loads(run("verify", path, "--json", code=1).stdout)
    assert (reported["letters"], len(reported["damaged"])) == (4, 1)
    assert "letters.jsonl  " in run("verify", path, code=1).stdout
    assert "skipped 6 bytes" in run("list", path).stderr


def test_the_file_is_an_argument_or_a_setting(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DEAD_LETTER_FILE", str(path))
    assert json.loads(run("stats", "--json").stdout)["letters"] == 4
    assert "there is no dead-letter file" in run("list", path.with_name("none"), code=2).stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command: str):
    out = run(command, "--help").stdout
    assert f"Examples:\n  dlq {command}" in out
    assert "--json" in out


def test_a_replay_of_nothing_needs_no_server(path: Path):
    assert "to replay    0" in run("replay", path, "--since", "2030-01-01").stdout


PATCH = '[{"op": "replace", "path": "/payload/n", "value": 2}]'


def test_an_edit_shows_the_difference_and_makes_a_version_only_with_yes(path: Path):
    out = run("edit", "a", path, "--patch", PATCH)
    assert ('-    "n": 1' in out.stdout, '+    "n": 2' in out.stdout) == (True, True)
    assert "--yes makes the versions" in out.stderr
    assert states(path).keys() == {"0123456789ab-c"}
    (path.parent / "fix.json").write_text(PATCH)
    made = run(
        "edit", "a", path, "--patch", path.parent / "fix.json", "--why", "typing error", "--yes", "--json"
    ).stdout
    assert [(one["version"], one["base"]) for one in json.loads(made)["letters"]] == [(2, 1)]
    assert json.loads(run("edit", "a", path, "--patch", PATCH, "--yes", "--json").stdout)["unchanged"] == 1
    shown_text = run("show", "a", path).stdout
    assert "edited version 2 from version 1 by patch " in shown_text
    assert ": typing error" in shown_text
    (shown,) = json.loads(run("show", "a", path, "--json").stdout)
    assert (shown["event"]["payload"], shown["edited"]["payload"]) == ({"n": 1}, {"n": 2})
    assert [one["version"] for one in shown["history"]] == [2]
    trail = [json.loads(line) for line in (path.parent / f"{path.name}.trail").read_text().splitlines()]
    assert [(one["what"], one["why"]) for one in trail] == [("edited", "typing error"), ("edited", "")]


def test_a_function_transforms_a_group_and_what_it_cannot_is_named(path: Path, monkeypatch: pytest.MonkeyPatch):
    (path.parent / "upgrades.py").write_text("def second(payload):\n    return payload | {'n': payload['n'] + 1}\n")
    monkeypatch.chdir(path.parent)
    monkeypatch.syspath_prepend(path.parent)
    reported = json.loads(run("transform", path, "--with", "upgrades:second", "--all", "--json", code=1).stdout)
    assert (reported["dry_run"], reported["changed"], reported["refused"]) == (True, 2, 1)
    assert "no JSON object" in reported["refusals"][0]["why"]
    assert "made 2 versions" in run("transform", path, "--with", "upgrades:second", "--type", "order", "--yes").stdout
    assert "2 unchanged" in run("transform", path, "--with", "upgrades:second", "--type", "order", "--yes").stdout


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("edit", "a"), "by --patch or by --with"),
        (("edit", "a", "--patch", "[]", "--with", "x:y"), "by --patch or by --with"),
        (("edit", "a", "--patch", "{}"), "neither a JSON array nor a file"),
        (("edit", "a", "--patch", '[{"op": "spam"}]'), "--patch: operation 1"),
        (("edit", "a", "--with", "nowhere:f"), "--with=nowhere:f: importing nowhere failed"),
        (("edit", "nobody", "--patch", "[]"), "has the id 'nobody'"),
        (("edit", "0123456789ab", "--patch", "[]"), "has the id '0123456789ab'"),
        (("transform", "--patch", "[]"), "say which letters are meant"),
        (("note", "text"), "say which letters are meant"),
    ],
)
def test_an_edit_without_a_clear_meaning_is_refused(path: Path, words: tuple[str, ...], why: str):
    assert why in run(*words, "--dead-letter-file", path, code=2).stderr


def test_an_edit_of_an_event_with_several_letters_is_refused(tmp_path: Path):
    first = letter("a")
    path = write(tmp_path / "letters.jsonl", [first, replace(first, letter_id="0123456789ab-z")])
    assert "2 letters have the id 'a'" in run("edit", "a", "--patch", "[]", path, code=2).stderr


def test_notes_and_a_cause_are_shown_and_a_cause_selects(path: Path):
    run("note", "asked the supplier", path, "--id", "a")
    run("assign", "no sku", path, "--type", "order")
    out = run("show", "a", path).stdout
    assert "noted by " in out
    assert ": asked the supplier" in out
    assert "assigned   " in out
    assert len(json.loads(run("list", path, "--assigned", "no sku", "--json").stdout)) == 2
    run("assign", "", path, "--id", "a")
    assert len(json.loads(run("list", path, "--assigned", "no sku", "--json").stdout)) == 1
