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


RESERVED = "/?#"


@pytest.mark.parametrize("sign", RESERVED)
@pytest.mark.parametrize(("name", "scheme"), [("DATABASE_URL", "postgresql"), ("REDIS_URL", "redis"), ("SOURCE", "ws")])
def test_a_password_with_a_character_that_ends_the_host_is_not_quoted_in_the_refusal(
    name: str, scheme: str, sign: str
) -> None:
    value = f"{scheme}://user:{SECRET}{sign}x@127.0.0.1:1/d"
    with pytest.raises(UsageProblem, match=r"%2F") as refused:
        ListenerSettings.load({name.lower(): value})
    assert SECRET not in str(refused.value)
    assert name in str(refused.value)


def test_a_password_whose_beginning_looks_like_a_port_is_not_taken_for_one() -> None:
    with pytest.raises(UsageProblem, match="%2F") as refused:
        ListenerSettings.load({"database_url": f"postgresql://user:12/{SECRET}@127.0.0.1:1/d"})
    assert SECRET not in str(refused.value)


def test_the_path_of_a_feed_may_have_an_at_sign() -> None:
    url = "wss://feed.example:9443/ws/btcusdt@trade"
    assert ListenerSettings.load({"ws_url": url, "database_url": "postgresql://h"}).ws_url.reveal() == url


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://u:p@[::1]:5432/d",
        "postgresql://u:p%2Fq@a:1,b/d?x=y",
        "postgresql:///d?host=/tmp",
        "postgresql://h",
    ],
)
def test_addresses_that_can_be_read_are_taken(address: str) -> None:
    assert AuditSettings.load({"database_url": address}).database_url.reveal() == address


def test_a_journals_address_is_seen_too() -> None:
    with pytest.raises(UsageProblem, match="%2F") as refused:
        ProducerSettings.load({"journal": f"postgresql://u:{SECRET}/x@h/d"})
    assert SECRET not in str(refused.value)


def test_an_address_that_a_library_refuses_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "failed_events.jsonl").touch()
    environment = {"DATABASE_URL": f"postgresql://u:{SECRET}[x@h/d"}
    done = CliRunner().invoke(main, ["dlq", "list"], env=environment)
    assert done.exit_code == 0, done.output
    assert done.stderr.startswith("warning: ")
    assert "DATABASE_URL is no address of a PostgreSQL database" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert SECRET not in done.output
