"""Whoever kills a listener that does not stop waits for longer than an orderly stop may take."""

import re
from pathlib import Path

import pytest
import yaml

from unlost.listener.app import shipping
from unlost.listener.app.settings import ListenerSettings
from unlost.listener.pipeline import healer, orderly_stop
from unlost.listener.source import gaps
from unlost.ops.system.grace import OTHER_STEPS_SECONDS, SHUTDOWN_TIMEOUT, grace_of

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "ops" / "deploy"
DEFAULT = grace_of({})


def test_it_has_room_for_all_steps_of_a_stop():
    assert ListenerSettings.model_fields["shutdown_timeout"].default == SHUTDOWN_TIMEOUT
    claims_and_what_peers_settled = 2 * orderly_stop.QUIET_SECONDS
    assert (
        claims_and_what_peers_settled
        + orderly_stop.LETTERS_SECONDS
        + healer.FINISH_SECONDS
        + gaps.LAST_SECONDS
        + shipping.LAST_SECONDS
    ) <= OTHER_STEPS_SECONDS


@pytest.mark.parametrize(("given", "more"), [("60", 40.0), ("0", -20.0), ("", 0.0), ("soon", 0.0)])
def test_it_follows_the_setting(given: str, more: float):
    assert grace_of({"SHUTDOWN_TIMEOUT": given}) == DEFAULT + more


def test_compose_systemd_and_kubernetes_wait_as_long():
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name in ("listener-a", "listener-b"):
        assert services[name]["stop_grace_period"] == f"{DEFAULT:g}s"
    unit = (DEPLOY / "systemd" / "unlost-listener@.service").read_text()
    assert re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE) == [f"{DEFAULT:g}"]
    manifests = yaml.safe_load_all((DEPLOY / "kubernetes" / "unlost.yaml").read_text())
    (pod,) = [
        one["spec"]["template"]["spec"]
        for one in manifests
        if one["metadata"]["name"] == "unlost-listener" and one["kind"] == "StatefulSet"
    ]
    waited = int(pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][1])
    assert pod["terminationGracePeriodSeconds"] >= waited + DEFAULT
