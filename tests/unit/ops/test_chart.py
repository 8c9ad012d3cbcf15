"""The Helm chart makes what the plain manifests have, and nothing that Kubernetes or a confined pod would refuse."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.support.helm_program import Helm, Manifest
from unlost.listener.app.settings import ListenerSettings
from unlost.ops.audit.places import AuditSettings
from unlost.ops.console.settings import ConsoleSettings
from unlost.ops.kit.command import secret_names
from unlost.ops.upkeep.migrate import MigrateSettings
from unlost.producer.app.settings import ProducerSettings

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "ops" / "deploy"
CHART = DEPLOY / "helm" / "unlost"
PLAIN: list[dict[str, Any]] = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "unlost.yaml").read_text()))
OWN_KINDS = ("ServiceMonitor", "PrometheusRule", "ScaledObject")
EVERYTHING = (
    "bundled.enabled=true", "keda.enabled=true", "monitoring.serviceMonitor.enabled=true",
    "monitoring.serviceMonitor.tokenSecret=t", "monitoring.prometheusRule.enabled=true",
    "monitoring.dashboards.enabled=true", "producer.journal=postgresql", "producer.replicas=2",
)  # fmt: skip
SETTINGS: dict[str, Any] = {
    "producer": ProducerSettings,
    "listener": ListenerSettings,
    "console": ConsoleSettings,
    "audit": AuditSettings,
    "migrate": MigrateSettings,
}


def by_name(manifests: list[Manifest]) -> dict[tuple[str, str], Manifest]:
    return {(one["kind"], one["metadata"]["name"]): one for one in manifests}


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    found: dict[str, Manifest] = {}
    for (kind, name), one in by_name(manifests).items():
        if kind in ("StatefulSet", "Deployment", "Job"):
            found[name] = one["spec"]["template"]["spec"]
        elif kind == "CronJob":
            found[name] = one["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return found


def test_helm_has_no_objection(helm: Helm):
    done = helm.run("lint", "--strict", str(CHART), *(part for one in EVERYTHING for part in ("--set", one)))
    assert done.returncode == 0, done.stdout + done.stderr


def test_by_default_it_makes_the_plain_manifests_a_service_of_the_console_and_the_migration(helm: Helm):
    ours, plain = by_name(helm.rendered()), by_name(PLAIN)
    assert set(ours) - set(plain) == {
        ("Service", "unlost-console"), ("Job", "unlost-migrate-1"), ("NetworkPolicy", "unlost-migrate"),
    }  # fmt: skip
    assert set(plain) <= set(ours)
    for key, one in plain.items():
        assert alike(ours[key].get("spec")) == alike(one.get("spec")), key


def alike(spec: Any) -> Any:
    """What both have to agree in. The chart adds labels, and settings that are defaults."""
    chosen: dict[str, Callable[[Any], Any]] = {
        "labels": lambda labels: labels.get("app"),
        "env": lambda env: {one["name"]: one for one in env if one["name"] not in NAMED_BY_THE_CHART},
    }
    if isinstance(spec, dict):
        pairs = ((key, chosen[key](value) if key in chosen else alike(value)) for key, value in spec.items())
        return {key: value for key, value in pairs if key != "imagePullPolicy"}
    return [alike(one) for one in spec] if isinstance(spec, list) else spec


NAMED_BY_THE_CHART = {"SHUTDOWN_TIMEOUT", "MIGRATE", "ALLOWED_HOSTS"}


@pytest.mark.parametrize("values", [(), EVERYTHING], ids=["default", "everything"])
def test_kubernetes_accepts_each_manifest(helm: Helm, values: tuple[str, ...]):
    for one in helm.rendered(*values):
        if one["kind"] not in OWN_KINDS:
            kubernetes_validate.validate(one, "1.32", strict=True)


def test_every_pod_is_confined(helm: Helm):
    for name, pod in pods(helm.rendered(*EVERYTHING)).items():
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["automountServiceAccountToken"] is False, name
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            }, name  # fmt: skip
            assert "limits" in container["resources"], name
            assert not any("secretKeyRef" in one.get("valueFrom", {}) for one in container.get("env", ())), name


def test_every_image_can_be_pinned_by_its_digest(helm: Helm):
    ours = "registry.example/unlost:v1@sha256:" + 64 * "a"
    values = "image.repository=registry.example/unlost", "image.tag=v1", f"image.digest={ours.partition('@')[2]}"
    found = {one["image"] for pod in pods(helm.rendered(*EVERYTHING, *values)).values() for one in pod["containers"]}
    assert ours in found
    assert len(found) == 3, "ours, PostgreSQL, Redis"
    assert [one for one in found if not re.search("@sha256:[0-9a-f]{64}$", one)] == []


def test_it_sets_only_what_is_known(helm: Helm):
    for name, pod in pods(helm.rendered("bundled.enabled=false", "listener.handler=shop.orders:handle")).items():
        settings = SETTINGS[name.split("-")[1]]
        known = {field.upper() for field in settings.model_fields} | secret_names(settings)
        assert {one["name"] for one in pod["containers"][0].get("env", ())} <= known, name


def test_a_replay_of_the_console_runs_as_listeners_do(helm: Helm):
    found = pods(helm.rendered("listener.handler=shop.orders:handle", "listener.env.GROUP=eu"))
    for name in ("unlost-listener", "unlost-console"):
        environment = {one["name"]: one.get("value") for one in found[name]["containers"][0]["env"]}
        assert (environment["HANDLER"], environment["GROUP"]) == ("shop.orders:handle", "eu")
    (audit,) = (pod for name, pod in found.items() if name == "unlost-audit")
    assert {"name": "GROUP", "value": "eu"} in audit["containers"][0]["env"]


def test_the_secret_of_claims_comes_from_the_secrets_of_listeners_and_console(helm: Helm):
    named = "/run/unlost/REDIS_SECRET"
    assert f"REDIS_SECRET_FILE: {named}" in (CHART / "values.yaml").read_text()
    found = pods(helm.rendered("listener.handler=shop.orders:handle", f"listener.env.REDIS_SECRET_FILE={named}"))
    having = {
        name for name, pod in found.items()
        if {"name": "REDIS_SECRET_FILE", "value": named} in pod["containers"][0].get("env", ())
    }  # fmt: skip
    assert having == {"unlost-listener", "unlost-console"}
    for name in having:
        assert "REDIS_SECRET_FILE" in secret_names(SETTINGS[name.split("-")[1]])
        assert {"name": "secrets", "mountPath": "/run/unlost", "readOnly": True} in (
            found[name]["containers"][0]["volumeMounts"]
        )


def test_several_producers_share_a_journal_and_have_no_disk(helm: Helm):
    found = by_name(helm.rendered("producer.journal=postgresql", "producer.replicas=3"))
    producer = found["Deployment", "unlost-producer"]
    environment = {one["name"] for one in producer["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert producer["spec"]["replicas"] == 3
    assert "JOURNAL_FILE" in environment
    assert "JOURNAL" not in environment
    assert ("PodDisruptionBudget", "unlost-producer") in found


def test_a_journal_in_a_file_has_one_producer(helm: Helm):
    done = helm.run("template", "unlost", str(CHART), "--set", "producer.replicas=2")
    assert done.returncode
    assert "producer.replicas above 1 needs producer.journal=postgresql" in done.stderr


@pytest.mark.parametrize(
    "wrong",
    [
        "listener.replicas=0",
        "producers.replicas=2",
        "listener.handler=no handler",
        "audit.enabled=maybe",
        "image.digest=latest",
    ],
)
def test_a_wrong_value_is_refused(helm: Helm, wrong: str):
    done = helm.run("template", "unlost", str(CHART), "--set", wrong)
    assert done.returncode
    assert "values don't meet the specifications of the schema" in done.stderr


def test_rules_and_dashboards_are_those_of_the_repository(helm: Helm):
    found = helm.rendered(*EVERYTHING)
    (rules,) = (one for one in found if one["kind"] == "PrometheusRule")
    files = [yaml.safe_load((DEPLOY / "prometheus" / name).read_text()) for name in ("rules.yml", "alerts.yml")]
    assert rules["spec"]["groups"] == [group for file in files for group in file["groups"]]
    maps = [one["data"] for one in found if one["kind"] == "ConfigMap"]
    shown = {name: json.loads(text) for data in maps for name, text in data.items()}
    boards = (ROOT / "grafana" / "dashboards").glob("*.json")
    assert shown == {board.name: json.loads(board.read_text()) for board in boards}


def test_keda_scales_by_a_figure_that_a_rule_records(helm: Helm):
    (scaled,) = (one for one in helm.rendered("keda.enabled=true") if one["kind"] == "ScaledObject")
    (trigger,) = scaled["spec"]["triggers"]
    recorded = re.findall(r"record: (\S+)", (DEPLOY / "prometheus" / "rules.yml").read_text())
    assert trigger["metadata"]["query"] in recorded
    assert trigger["metricType"] == "AverageValue"
    found = by_name(helm.rendered("keda.enabled=true", "keda.maxReplicas=5"))
    listener = found["StatefulSet", "unlost-listener"]
    assert "replicas" not in listener["spec"], "an upgrade must not undo what KEDA decided"
    environment = listener["spec"]["template"]["spec"]["containers"][0]["env"]
    (hosts,) = (one["value"] for one in environment if one["name"] == "ALLOWED_HOSTS")
    assert len(hosts.split(",")) == 5
