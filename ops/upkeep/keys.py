"""``unlost keys``: make the key file of the shipped codec, add a new key, and drop one that nothing needs any more."""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from pydantic import Field

from unlost.dlq.record.trail import Act, note_beside, whoami
from unlost.listener.shipped import key_file
from unlost.listener.shipped.key_file import KeyFile
from unlost.ops.kit.access.watched_file import Unusable
from unlost.ops.kit.command import Settings, UsageProblem, command, main_group, say, say_json_text
from unlost.ops.kit.telemetry.counted import counted
from unlost.ops.kit.telemetry.files import private_descriptor, private_directory


class KeySettings(Settings):
    """Where the keys are."""

    codec_keys: Path = Field(Path("keys.json"), description="Key file of CODEC")


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other commands from changing the key file meanwhile."""
    descriptor = private_descriptor(path.with_name(f"{path.name}.lock"), os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def read_keys(path: Path) -> KeyFile:
    """Read the key file. Raises ``UsageProblem``."""
    try:
        return key_file.read(path)
    except Unusable as error:
        raise UsageProblem(str(error)) from None


def _changed(path: Path, what: str, about: str, keys: KeyFile) -> None:
    key_file.write(path, keys)
    note_beside(path, Act(whoami(), "unlost keys", what, about, "", f"file {key_file.fingerprint(keys)}"))


@command(KeySettings, name="create", examples=["unlost keys create --codec-keys /etc/unlost/keys.json"])
def create(settings: KeySettings) -> int:
    """Make a key file with one key. Its owner alone may read it."""
    path = settings.codec_keys
    private_directory(path.parent)
    with locked(path):
        if path.exists():
            raise UsageProblem(f"{path} exists already; `unlost keys rotate` adds a key to it")
        keys = key_file.fresh()
        _changed(path, "keys created", f"key {keys.current}", keys)
    say(f"{path}: key {keys.current}; keep a copy apart from what it protects: without it nothing can be read")
    return 0


@command(KeySettings, name="rotate", examples=["unlost keys rotate"])
def rotate(settings: KeySettings) -> int:
    """Add a new key, which encrypts from now on. Earlier ones still decrypt."""
    path = settings.codec_keys
    with locked(path):
        keys = key_file.rotated(read_keys(path))
        _changed(path, "key rotated", f"key {keys.current}", keys)
    say(f"{path}: key {keys.current} encrypts from now on")
    return 0


@command(
    KeySettings,
    name="drop",
    examples=["unlost keys drop 2026-01-31.1 --yes"],
    params=[
        click.Argument(["kid"]),
        click.Option(["--yes"], is_flag=True, help="Drop it. Without it, only say what would be lost."),
    ],
)
def drop(settings: KeySettings, kid: str, yes: bool) -> int:
    """Drop a key for good. Content that is encrypted with it stays unreadable, whoever it is about."""
    path = settings.codec_keys
    with locked(path):
        keys = read_keys(path)
        if kid not in keys.keys:
            raise UsageProblem(f"{path} has no key {kid!r}; `unlost keys list` shows them")
        if kid == keys.current:
            raise UsageProblem(f"{kid} encrypts now; `unlost keys rotate` adds another first")
        if not yes:
            say(f"everything that is encrypted with {kid} would stay unreadable; --yes drops it")
            return 1
        _changed(path, "key dropped", f"key {kid}", key_file.without_key(keys, kid))
    say(f"{path}: {kid} is dropped")
    return 0


@command(
    KeySettings,
    name="list",
    examples=["unlost keys list"],
    params=[click.Option(["--json", "as_json"], is_flag=True, help="Print JSON.")],
)
def list_keys(settings: KeySettings, as_json: bool) -> int:
    """List the keys by id, never the keys themselves."""
    keys = read_keys(settings.codec_keys)
    found = [{"key": kid, "made": one.made, "current": kid == keys.current} for kid, one in keys.keys.items()]
    file = key_file.fingerprint(keys)
    if as_json:
        say_json_text(json.dumps({"keys": found, "erased": len(keys.erased), "file": file}))
        return 0
    for one in found:
        say(f"{one['key']}  made {one['made']}{'  encrypts' if one['current'] else ''}")
    say(f"{counted(len(keys.erased), 'subject')} erased; file {file}")
    return 0


keys: click.Group = main_group(
    "keys",
    [create, rotate, drop, list_keys],
    help="Make and rotate the keys with which events are encrypted at rest.",
    examples=["unlost keys create", "unlost keys rotate", "unlost keys list"],
)
