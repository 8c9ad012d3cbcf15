"""Each wrong setting is one sentence, and all mistakes are reported together."""

from typing import Any

import pytest

from unlost.listener.app.connection_settings import CURSOR_BYTES
from unlost.listener.app.settings import ListenerSettings
from unlost.listener.pipeline.effect_delivery import EffectPolicy
from unlost.listener.pipeline.policy import Policy
from unlost.ops.kit.command import UsageProblem


@pytest.mark.parametrize(
    ("given", "flag"),
    [
        ({"instance_id": ""}, "--instance-id"),
        ({"group": "a b"}, "--group"),
        ({"redis_url": "http://x/"}, "--redis-url"),
        ({"redis_url": "nonsense"}, "--redis-url"),
        ({"database_url": "mysql://x/"}, "--database-url"),
        ({"ws_url": "http://x/"}, "--ws-url"),
        ({"log_level": "loud"}, "--log-level"),
        ({"fast": "maybe"}, "--fast"),
        ({"redis_timeout": "0"}, "--redis-timeout"),
        ({"database_timeout": "-1"}, "--database-timeout"),
        ({"database_connections": "1"}, "--database-connections"),
        ({"database_attempts": "0"}, "--database-attempts"),
        ({"startup_attempts": "0"}, "--startup-attempts"),
        ({"startup_delay": "-1"}, "--startup-delay"),
        ({"lease": "0"}, "--lease"),
        ({"dedup_window": "61", "lease": "60"}, "--dedup-window"),
        ({"lease": "2.9", "redis_timeout": "1"}, "--lease"),
        ({"handler": "no colon"}, "--handler"),
        ({"handle_attempts": "0"}, "--handle-attempts"),
        ({"handle_delay": "-1"}, "--handle-delay"),
        ({"handle_timeout": "0"}, "--handle-timeout"),
        ({"handle_concurrency": "0"}, "--handle-concurrency"),
        ({"insert_attempts": "0"}, "--insert-attempts"),
        ({"insert_delay": "-1"}, "--insert-delay"),
        ({"max_takeovers": "0"}, "--max-takeovers"),
        ({"max_event_bytes": "1"}, "--max-event-bytes"),
        ({"batch_size": "0"}, "--batch-size"),
        ({"effect_hosts": "https://a/path/x"}, "--effect-hosts"),
        ({"effect_networks": "10.0.0.1/8"}, "--effect-networks"),
        ({"effect_secrets": "a.com=short"}, "--effect-secrets"),
        ({"effect_tokens": "sesame"}, "--effect-tokens"),
        ({"effect_producer": "nonsense"}, "--effect-producer"),
        ({"effect_ca": "/nowhere.pem"}, "--effect-ca"),
        ({"effect_attempts": "0"}, "--effect-attempts"),
        ({"effect_first": "0"}, "--effect-first"),
        ({"effect_first": "9", "effect_max": "8"}, "--effect-max"),
        ({"effect_timeout": "0"}, "--effect-timeout"),
        ({"effect_concurrency": "0"}, "--effect-concurrency"),
        ({"port": "70000"}, "--port"),
        ({"port": "x"}, "--port"),
        ({"source_resumes": "maybe"}, "--source-resumes"),
        ({"partitions": "auto"}, "--partitions"),
        ({"partitions": "on", "source_resumes": "no"}, "--partitions"),
        ({"start_from": "never"}, "--start-from"),
        ({"reconnect_first": "0"}, "--reconnect-first"),
        ({"reconnect_first": "9", "reconnect_max": "8"}, "--reconnect-max"),
        ({"keepalive": "0"}, "--keepalive"),
        ({"max_events": "0"}, "--max-events"),
        ({"max_bytes": "100000"}, "--max-bytes"),
        ({"shutdown_timeout": "-1"}, "--shutdown-timeout"),
        ({"console_url": "nonsense"}, "--console-url"),
    ],
)
def test_a_wrong_setting_is_one_sentence_that_names_its_flag(given: dict[str, Any], flag: str):
    with pytest.raises(UsageProblem) as refused:
        ListenerSettings.load(given)
    assert len(refused.value.problems) == 1
    assert flag in refused.value.problems[0]
    assert flag[2:].replace("-", "_").upper() in refused.value.problems[0]


def test_all_mistakes_come_at_once():
    with pytest.raises(UsageProblem) as refused:
        ListenerSettings.load({"port": "x", "lease": "0", "ws_url": "http://x/", "group": ""})
    assert len(refused.value.problems) == 4


def test_the_shortest_lease_that_a_slow_redis_can_renew_is_taken():
    assert ListenerSettings.load({"lease": "3", "redis_timeout": "1"}).lease == 3


def test_passwords_are_masked():
    settings = ListenerSettings.load({"redis_url": "redis://u:sesame@h/", "ws_authorization": "Bearer sesame"})
    assert "sesame" not in repr(settings) + str(settings.model_dump(mode="json"))


def test_the_stages_go_by_the_settings_and_by_their_defaults_where_nothing_is_set():
    policy = ListenerSettings.load({}).policy()
    assert policy == Policy(max_event_bytes=policy.max_event_bytes)
    assert policy.max_event_bytes == ListenerSettings.load({}).max_event_bytes + CURSOR_BYTES
    assert ListenerSettings.load({}).effect_policy() == EffectPolicy()


def test_letters_are_sure_after_everything_that_may_still_store_their_event():
    lease = ListenerSettings.load({"lease": "50", "handle_timeout": "20", "database_timeout": "3"}).policy()
    handler = ListenerSettings.load({"lease": "15", "handle_timeout": "20", "database_timeout": "3"}).policy()
    assert (lease.letters_sure_after, handler.letters_sure_after) == (54.0, 24.0)
