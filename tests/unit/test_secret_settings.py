"""Each secret setting of each command can stand in a file, and ``--show-settings`` shows none."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from unlost.dlq.commands.options import LetterSettings
from unlost.dlq.commands.replay import ReplaySettings
from unlost.listener.app.settings import ListenerSettings
from unlost.ops.audit.places import AuditSettings
from unlost.ops.cli import main
from unlost.ops.console.settings import ConsoleSettings
from unlost.ops.kit.command import Settings, UsageProblem, secret_names
from unlost.ops.upkeep.migrate import MigrateSettings
from unlost.ops.upkeep.retention import RetentionSettings
from unlost.ops.watch.settings import WatchSettings
from unlost.producer.app.settings import ProducerSettings

COMMANDS: dict[str, type[Settings]] = {
    "listener": ListenerSettings, "producer": ProducerSettings, "console": ConsoleSettings, "audit": AuditSettings,
    "event": AuditSettings, "top": WatchSettings, "migrate": MigrateSettings, "retention": RetentionSettings,
    "dlq replay": ReplaySettings, "dlq list": LetterSettings,
}  # fmt: skip
SECRET = "hunter2hunter2"
NEEDED = {"NOTIFY": {"effect_hosts": "events.pagerduty.com"}}
"""Without these settings the secret is refused."""
URLS = {"REDIS_URL": "redis", "WS_URL": "ws", "PRODUCER_URL": "http", "SOURCE": "ws"}


def given(name: str) -> str:
    """A value of this setting that holds the secret."""
    if name.endswith("URL") or name in ("SOURCE", "JOURNAL"):
        return f"{URLS.get(name, 'postgresql')}://user:{SECRET}@127.0.0.1/d"
    if name.startswith("EFFECT_"):
        return f"a.com={SECRET}{SECRET}AAAA"
    return f"pagerduty={SECRET}" if name == "NOTIFY" else f"Bearer {SECRET * 3}"


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (words, name)
        for words, kind in COMMANDS.items()
        for name in sorted(secret_names(kind))
        if not name.endswith("_FILE")
    ],
)
def test_a_secret_may_stand_in_a_file_and_is_never_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, name: str
):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "secret"
    file.write_text(given(name) + "\n")
    needed = NEEDED.get(name, {})
    environment = {f"{name}_FILE": str(file)} | {one.upper(): value for one, value in needed.items()}
    for flags in (["--show-settings"], ["--show-settings", "--json"]):
        shown = CliRunner().invoke(main, [*words.split(), *flags], env=environment)
        assert shown.exit_code == 0, shown.output
        assert name in shown.output.upper().replace("-", "_")
        assert SECRET not in shown.output
    loaded = getattr(COMMANDS[words].load({name.lower(): given(name), **needed}), name.lower())
    assert SECRET in loaded.reveal()
    assert SECRET not in f"{loaded} {loaded!r}"


def test_a_file_that_the_environment_names_goes_before_a_secret_in_env(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_text("the file's")
    (tmp_path / ".env").write_text("UNLOST_TOKEN=of-env\n")
    monkeypatch.setenv("UNLOST_TOKEN_FILE", str(tmp_path / "secret"))
    assert WatchSettings.load({}).unlost_token.reveal() == "the file's"
    monkeypatch.setenv("UNLOST_TOKEN", "the environment's")
    with pytest.raises(UsageProblem, match="UNLOST_TOKEN and UNLOST_TOKEN_FILE are both set; keep one of them"):
        WatchSettings.load({})
    monkeypatch.delenv("UNLOST_TOKEN_FILE")
    assert WatchSettings.load({}).unlost_token.reveal() == "the environment's"


def test_a_file_that_env_names_is_read_and_not_beside_the_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret").write_text("the file's")
    (tmp_path / ".env").write_text(f"UNLOST_TOKEN_FILE={tmp_path / 'secret'}\n")
    monkeypatch.delenv("UNLOST_TOKEN", raising=False)
    assert WatchSettings.load({}).unlost_token.reveal() == "the file's"
    monkeypatch.setenv("UNLOST_TOKEN", "the environment's")
    with pytest.raises(UsageProblem, match="both set"):
        WatchSettings.load({})
