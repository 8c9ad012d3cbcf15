"""``unlost keys`` and ``unlost erase``: files that are private, and sentences for every mistake."""

import json
import os
import pwd
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from unlost.dlq.record.trail import read, trail_beside
from unlost.listener.core.codec_loading import codec_of
from unlost.listener.core.errors import Misconfigured
from unlost.listener.shipped import key_file
from unlost.ops.cli import main
from unlost.ops.kit.access.settings import PayloadSettings

CODEC = "unlost.encryption:AesGcm"


def run(*words: str, code: int = 0, **env: str) -> Result:
    done = CliRunner().invoke(main, words, env=env)
    assert done.exit_code == code, done.output
    return done


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    path = tmp_path / "keys.json"
    run("keys", "create", "--codec-keys", str(path))
    return path


def test_a_key_file_is_private_and_never_overwritten(keys: Path) -> None:
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    before = keys.read_bytes()
    assert "exists already" in run("keys", "create", "--codec-keys", str(keys), code=2).output
    assert keys.read_bytes() == before


def test_keys_are_rotated_listed_and_dropped_and_the_trail_has_it(keys: Path) -> None:
    at = ("--codec-keys", str(keys))
    first = key_file.read(keys).current
    run("keys", "rotate", *at)
    second = key_file.read(keys).current
    listed = json.loads(run("keys", "list", "--json", *at).stdout)
    assert [(one["key"], one["current"]) for one in listed["keys"]] == [(first, False), (second, True)]
    assert listed["file"] == key_file.fingerprint(key_file.read(keys))
    assert "encrypts now" in run("keys", "drop", second, "--yes", *at, code=2).output
    assert "would stay unreadable" in run("keys", "drop", first, *at, code=1).output
    run("keys", "drop", first, "--yes", *at)
    assert list(key_file.read(keys).keys) == [second]
    assert [one.what for one in read(trail_beside(keys))] == ["keys created", "key rotated", "key dropped"]
    assert all(secret not in trail_beside(keys).read_text() for secret in ("general", "nodes"))


def test_nobody_stands_in_the_trail_under_a_name_that_a_variable_gives(keys: Path) -> None:
    named: dict[str, Any] = dict.fromkeys(("LOGNAME", "USER", "LNAME", "USERNAME"), "somebody-else")
    run("keys", "rotate", "--codec-keys", str(keys), **named)
    (*_, entry) = read(trail_beside(keys))
    assert entry.who.partition("@")[0] == pwd.getpwuid(os.getuid()).pw_name


def test_a_receipt_says_which_plain_text_is_not_erased(keys: Path) -> None:
    env = {"CODEC": "unlost.encryption:AesGcm", "CODEC_KEYS": str(keys)}
    beside = json.loads(run("erase", "Jane", "--yes", code=1, **env).stdout)["beside"]
    for one in (
        "id and type",
        "ORDER_BY",
        "SHA-256 of the content",
        "confirm the guess",
        "REDIS_SECRET",
        "random bytes",
    ):
        assert one in beside


def test_an_erasure_says_what_it_could_not_look_at(keys: Path, tmp_path: Path) -> None:
    env = {"CODEC": CODEC, "CODEC_KEYS": str(keys)}
    receipt = json.loads(run("erase", "Jane", "--yes", "--journal", str(tmp_path / "none"), code=1, **env).stdout)
    assert [one.partition(":")[0] for one in receipt["not_looked_at"]] == ["rows, letters and effects", "journal"]
    file = key_file.read(keys)
    assert file.erased == [receipt["place"]] == [file.place_of("Jane")]
    assert receipt["key_file_after"] == key_file.fingerprint(file) != receipt["key_file_before"]
    (entry,) = [one for one in read(trail_beside(keys)) if one.what == "subject erased"]
    assert "Jane" not in f"{entry}{receipt}"


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        ({"codec": "nothing"}, "package.module:Codec"),
        ({"codec_keys": "k"}, "need --codec"),
        ({"codec": CODEC, "codec_subject": "a..b"}, "codec_subject"),
    ],
)
def test_wrong_settings_are_refused(env: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        PayloadSettings(**env)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("codec", "content", "sentence"),
    [
        (CODEC, None, "cannot be read"),
        (CODEC, "{}", "is no key file"),
        ("unlost.encryption:None_", None, "has no attribute"),
        ("nowhere:Codec", None, "No module named"),
        ("pathlib:Path", None, "encode, decode and is_erased"),
    ],
)
def test_a_codec_that_cannot_be_used_is_reported_in_one_sentence(
    tmp_path: Path, codec: str, content: str | None, sentence: str
) -> None:
    path = tmp_path / "keys.json"
    if content is not None:
        path.write_text(content)
        path.chmod(0o600)
    with pytest.raises(Misconfigured, match=f"CODEC={codec}.*{sentence}"):
        codec_of(PayloadSettings(codec=codec, codec_keys=path))


def test_a_key_file_that_others_may_read_is_refused(keys: Path) -> None:
    keys.chmod(0o644)
    with pytest.raises(Misconfigured, match="others may use it"):
        codec_of(PayloadSettings(codec=CODEC, codec_keys=keys))


def test_with_a_codec_all_content_is_masked() -> None:
    redactor = PayloadSettings(codec=CODEC).redactor()
    assert redactor.value({"event_id": "e", "type": "t", "payload": 1, "x": 2}) == {
        "event_id": "e", "type": "t", "payload": "***",
    }  # fmt: skip
    row = redactor.row({"event_id": "e", "payload": {"a": 1}, "other": {"b": 2}})
    assert (row["payload"], row["other"]) == ("***", "***")
    assert "Jane" not in redactor.text("no Jane", {"payload": 1})
    assert not PayloadSettings().redactor().masks
