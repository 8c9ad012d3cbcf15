"""The environment of a replay run by the console: the group's handler, and no secret that it does not need."""

import os
from pathlib import Path

import pytest

from unlost.dlq.commands.replay import ReplaySettings
from unlost.ops.console.replays import environment_of
from unlost.ops.console.settings import ConsoleSettings

OUTER = {
    "PATH": "/bin", "UNLOST_TOKEN": "t", "UNLOST_TOKEN_FILE": "/run/t", "WS_AUTHORIZATION": "Bearer x",
    "WS_URL": "ws://u:p@feed/", "DATABASE_URL": "postgresql://old/", "SHOP_API_KEY": "the user's own",
}  # fmt: skip
SECRETS = {
    "DATABASE_URL": "postgresql://u:p@db/console", "REPLAY_DATABASE_URL": "postgresql://u:p@db/replays",
    "REDIS_URL": "redis://u:p@redis:6379/0", "REDIS_SECRET": "s" * 32,
}  # fmt: skip
TOLD = {"DATABASE_URL": "postgresql://u:p@db/", "GROUP": "unlost"}


def test_it_has_what_it_needs_and_no_other_secret() -> None:
    assert environment_of(OUTER, TOLD, None) == {
        "PATH": "/bin", "DATABASE_URL": "postgresql://u:p@db/", "GROUP": "unlost", "SHOP_API_KEY": "the user's own",
    }  # fmt: skip


def test_it_has_the_handler_of_the_listeners_unless_the_console_has_one() -> None:
    theirs = environment_of({}, TOLD, "shop:handle@7")
    assert (theirs["HANDLER"], theirs["HANDLER_VERSION"]) == ("shop:handle", "7")
    assert environment_of({}, TOLD | {"HANDLER": "shop:own"}, "shop:handle@7")["HANDLER"] == "shop:own"


def test_a_secret_that_the_console_has_in_a_file_is_set_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in Compose and on Kubernetes. A command refuses a secret and its file together."""
    monkeypatch.chdir(tmp_path)
    for name in [*os.environ]:
        monkeypatch.delenv(name)
    for name, secret in SECRETS.items():
        (tmp_path / name).write_text(f"{secret}\n")
        monkeypatch.setenv(f"{name}_FILE", str(tmp_path / name))
    environment = environment_of(os.environ, ConsoleSettings.load({}).replay_environment(), None)
    assert environment["DATABASE_URL_FILE"] == str(tmp_path / "REPLAY_DATABASE_URL")
    assert not [one for one in SECRETS.values() if one in environment.values()], "what the handler starts inherits it"
    for name in [*os.environ]:
        monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    loaded = ReplaySettings.load({})
    assert loaded.database_url is not None
    assert loaded.database_url.reveal() == SECRETS["REPLAY_DATABASE_URL"]
    assert loaded.redis_url.reveal() == SECRETS["REDIS_URL"]
    assert loaded.redis_secret.reveal() == SECRETS["REDIS_SECRET"]


def test_a_flag_goes_before_a_file_that_the_environment_names(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("redis://of-the-file/")
    for path in (tmp_path / "secret", tmp_path / "none"):
        assert environment_of({"REDIS_URL_FILE": str(path)}, {"REDIS_URL": "redis://of-a-flag/"}, None) == {
            "REDIS_URL": "redis://of-a-flag/"
        }
