"""``unlost token``: a token is shown once, the file keeps its digest alone, and revoking removes it."""

import json
import stat
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from unlost.ops.access.token import token
from unlost.ops.kit.access.token_file import load_table


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TOKENS_FILE", str(tmp_path / "new" / "tokens.jsonl"))
    return tmp_path / "new" / "tokens.jsonl"


def run(*arguments: str) -> Result:
    return CliRunner().invoke(token, arguments)


def test_a_token_is_made_listed_and_revoked(file: Path):
    made = run("create", "shop", "--rights", "publish,read", "--groups", "eu,us")
    secret = made.output.strip()
    assert secret.startswith("unlost_")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert secret not in file.read_text()
    assert load_table(file).of_token(secret).rights == {"publish", "read"}

    listed = run("list")
    assert "shop" in listed.output
    assert "publish,read" in listed.output
    assert secret not in listed.output
    assert json.loads(run("list", "--json").output)["groups"] == ["eu", "us"]

    assert "revoked shop" in run("revoke", "shop").output
    assert load_table(file).of_token(secret) is None


def test_a_token_can_go_to_a_private_file_and_replaces_none(file: Path, tmp_path: Path):
    out = tmp_path / "secret"
    assert run("create", "prometheus", "--out", str(out)).output == ""
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert load_table(file).of_token(out.read_text()).rights == {"read"}
    again = run("create", "other", "--out", str(out))
    assert again.exit_code == 2
    assert "--out" in again.output


def test_a_certificate_can_be_the_only_proof(file: Path):
    assert run("create", "machine", "--subject", "CN=a", "--certificate-only").output == ""
    assert load_table(file).of_subject("CN=a").name == "machine"


def test_people_of_a_group_get_rights_and_no_token(file: Path):
    assert run("create", "oncall", "--rights", "operate", "--people", "oncall@example.org").output == ""
    assert load_table(file).of_person("eva", ["oncall@example.org"], within=None).rights == {"operate"}
    assert "--people and --subject" in run("create", "b", "--people", "x", "--subject", "CN=b").output


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (("create", "a", "--rights", "everything"), "not everything"),
        (("create", "a", "--rights", ","), "not nothing"),
        (("create", "a b"), "name"),
        (("create", "a", "--certificate-only"), "--subject"),
        (("create", "a", "--groups", "e u"), "groups"),
        (("create", "taken"), "has a token already"),
        (("revoke", "nobody"), "nobody has no token"),
    ],
)
def test_a_mistake_is_one_sentence_and_changes_nothing(file: Path, arguments: tuple[str, ...], shown: str):
    run("create", "taken")
    before = file.read_bytes()
    refused = run(*arguments)
    assert refused.exit_code == 2
    assert shown in refused.output
    assert file.read_bytes() == before


def test_a_file_that_others_may_write_is_refused(file: Path):
    run("create", "a")
    file.chmod(0o602)
    refused = run("list")
    assert refused.exit_code == 2
    assert "others may write" in refused.output


def test_a_new_file_keeps_the_mode_of_the_old_one(file: Path):
    run("create", "a")
    file.chmod(0o640)
    run("create", "b")
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
