"""Each wrong setting of each command is one sentence. For the listener see ``listener/test_settings.py``."""

from typing import Any

import pytest

from unlost.dlq.commands.options import LetterSettings
from unlost.dlq.commands.replay import ReplaySettings
from unlost.ops.audit.places import AuditSettings
from unlost.ops.bench.cli import BenchSettings
from unlost.ops.console.settings import ConsoleSettings
from unlost.ops.kit.command import Settings, UsageProblem
from unlost.ops.system.up import UpSettings
from unlost.ops.upkeep.retention import RetentionSettings
from unlost.ops.watch.settings import WatchSettings
from unlost.producer.app.settings import ProducerSettings

WRONG: list[tuple[type[Settings], dict[str, Any]]] = [
    (ProducerSettings, {"instance_id": ""}),
    (ProducerSettings, {"host": "0.0.0.0"}),
    (ProducerSettings, {"allow_open": "maybe"}),
    (ConsoleSettings, {"host": "::"}),
    (ProducerSettings, {"port": "70000"}),
    (ProducerSettings, {"ws_port": "-1"}),
    (ProducerSettings, {"listeners": "127.0.0.1:3000"}),
    (ProducerSettings, {"max_event_bytes": "10"}),
    (ProducerSettings, {"max_batch_bytes": "10"}),
    (ProducerSettings, {"retention": "1"}),
    (ProducerSettings, {"max_journal_bytes": "1"}),
    (ProducerSettings, {"max_clients": "0"}),
    (ProducerSettings, {"ping_timeout": "0"}),
    (ProducerSettings, {"events_per_second": "-1"}),
    (ProducerSettings, {"bytes_per_second": "-1"}),
    (ProducerSettings, {"streams_per_identity": "-1"}),
    (ProducerSettings, {"redact": "card,customer."}),
    (LetterSettings, {"redact": ".card"}),
    (ProducerSettings, {"log_level": "loud"}),
    (ProducerSettings, {"fast": "maybe"}),
    (ProducerSettings, {"journal": "http://localhost/journal"}),
    (ProducerSettings, {"console_url": "nonsense"}),
    (UpSettings, {"producer_port": "0"}),
    (UpSettings, {"ws_port": "x"}),
    (UpSettings, {"listener_port": "70000"}),
    (UpSettings, {"listener_count": "0"}),
    (UpSettings, {"postgres_port": "70000"}),
    (UpSettings, {"redis_port": "0"}),
    (UpSettings, {"console_port": "0"}),
    (UpSettings, {"postgres": "mine"}),
    (UpSettings, {"redis": "mine"}),
    (UpSettings, {"ha": "maybe"}),
    (ConsoleSettings, {"port": "70000"}),
    (ConsoleSettings, {"listeners": "127.0.0.1:3000"}),
    (ConsoleSettings, {"producer_url": "nonsense"}),
    (LetterSettings, {"database_url": "nonsense"}),
    (WatchSettings, {"listeners": "127.0.0.1:3000"}),
    (WatchSettings, {"producer_url": "nonsense"}),
    (WatchSettings, {"database_url": "nonsense"}),
    (AuditSettings, {"producer_url": "nonsense"}),
    (AuditSettings, {"listeners": "http://:3000"}),
    (AuditSettings, {"database_url": "nonsense"}),
    (AuditSettings, {"settle": "-1"}),
    (RetentionSettings, {"database_url": "nonsense"}),
    (RetentionSettings, {"dedup_window": "1"}),
    (RetentionSettings, {"batch": "0"}),
    (BenchSettings, {"events": "1"}),
    (BenchSettings, {"listeners": "9"}),
    (BenchSettings, {"rounds": "0"}),
    (ReplaySettings, {"handle_attempts": "0"}),
    *(
        (settings, given)
        for settings in (ProducerSettings, LetterSettings)
        for given in ({"codec": "nothing"}, {"codec_keys": "keys.json"}, {"codec_subject": "payload..id"})
    ),
]
ANY_VALUE_DOES = {
    "allowed_origins", "allowed_hosts", "data", "group", "dead_letter_file", "letters", "tokens_file",
    "unlost_token", "schemas", "senders_file",
}  # fmt: skip
OF_TLS = {
    "tls_cert", "tls_key", "tls_client_ca",
    *(f"{wire}_{file}" for wire in ("database", "redis", "ws", "unlost") for file in ("ca", "cert", "key")),
}  # fmt: skip
"""See ``tests/security/test_tls.py``."""


@pytest.mark.parametrize(("settings", "given"), WRONG, ids=lambda value: getattr(value, "__name__", None) or str(value))
def test_a_wrong_setting_is_one_sentence_that_names_flag_and_variable(settings: type[Settings], given: dict[str, Any]):
    with pytest.raises(UsageProblem) as refused:
        settings.load(given)
    (problem,) = refused.value.problems
    (name,) = given
    assert f"--{name.replace('_', '-')}" in problem
    assert name.upper() in problem


@pytest.mark.parametrize(
    "settings",
    [ProducerSettings, UpSettings, AuditSettings, RetentionSettings, BenchSettings, LetterSettings, WatchSettings],
)
def test_every_setting_that_can_be_wrong_is_tried(settings: type[Settings]):
    tried = {name for one, given in WRONG if one is settings for name in given}
    assert set(settings.model_fields) - ANY_VALUE_DOES - OF_TLS == tried
