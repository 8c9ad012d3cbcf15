"""Deployment files are valid for Kubernetes' schemas and systemd's check, and each part is confined as documented."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.support.needed import needed
from unlost.dlq.commands.replay import ReplaySettings
from unlost.listener.app.settings import ListenerSettings
from unlost.ops.audit.places import AuditSettings
from unlost.ops.console.settings import ConsoleSettings
from unlost.ops.kit.command import secret_names
from unlost.producer.app.settings import ProducerSettings

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "ops" / "deploy"
MANIFESTS: list[dict[str, Any]] = list(yaml.safe_load_all((DEPLOY / "kubernetes" / "unlost.yaml").read_text()))
WORKLOADS = [one for one in MANIFESTS if one["kind"] in ("StatefulSet", "Deployment")]
UNITS = sorted((DEPLOY / "systemd").glob("*.service")) + sorted((DEPLOY / "systemd").glob("*.timer"))
PROJECT: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
HA: dict[str, Any] = yaml.safe_load((DEPLOY / "compose" / "ha.yml").read_text())
SERVICES = [(project["name"], name, one) for project in (PROJECT, HA) for name, one in project["services"].items()]
OURS = {name: one for name, one in PROJECT["services"].items() if one["image"].startswith("unlost:")}
SETTINGS: dict[str, Any] = {
    "producer": ProducerSettings,
    "listener-a": ListenerSettings,
    "listener-b": ListenerSettings,
    "console": ConsoleSettings,
    "audit": AuditSettings,
    "tools": ReplaySettings,
}
NOT_OURS = {"PGPASSFILE"}
ASKED_BY_OTHER_TOOLS = {"tools": {"PRODUCER_URL", "LISTENERS", "UNLOST_TOKEN_FILE"}}


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_kubernetes_accepts_each_manifest(manifest: dict[str, Any]):
    kubernetes_validate.validate(manifest, "1.32", strict=True)


@pytest.mark.parametrize(
    ("workload", "settings"),
    list(zip(WORKLOADS, (ProducerSettings, ListenerSettings, ConsoleSettings), strict=True)),
    ids=["producer", "listener", "console"],
)
def test_pods_are_confined_and_end_later_than_their_drain(workload: dict[str, Any], settings: Any):
    pod = workload["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert pod["securityContext"]["runAsNonRoot"]
    waited = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    drain = settings.model_fields["shutdown_timeout"].default if "shutdown_timeout" in settings.model_fields else 0
    assert pod["terminationGracePeriodSeconds"] > waited + drain
    known = {name.upper() for name in settings.model_fields} | secret_names(settings)
    assert {one["name"] for one in container["env"]} <= known
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
    assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"


@pytest.mark.parametrize("unit", UNITS, ids=lambda one: one.name)
def test_systemd_accepts_each_unit(unit: Path, tmp_path: Path):
    analyze = needed("systemd-analyze", package="systemd")
    name = unit.name.replace("@.", "@a.")
    text = unit.read_text().replace("/opt/unlost/bin/", f"{shutil.which('true')} #")
    (tmp_path / name).write_text(text)
    if unit.suffix == ".timer":  # it is checked together with what it starts
        (tmp_path / f"{unit.stem}.service").write_text(f"[Service]\nType=oneshot\nExecStart={shutil.which('true')}\n")
    checked = subprocess.run(
        [analyze, "verify", "--man=no", str(tmp_path / name)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")


OF_UNITS: dict[str, Any] = {
    "unlost-audit.service": AuditSettings,
    "unlost-console.service": ConsoleSettings,
    "unlost-listener@.service": ListenerSettings,
    "unlost-producer.service": ProducerSettings,
}
VALUES = {
    "DATABASE_URL": "postgresql://u:pw@h/d",
    "REPLAY_DATABASE_URL": "postgresql://v:pw@h/d",
    "REDIS_URL": "redis://h",
}


@pytest.mark.parametrize("name", OF_UNITS)
def test_a_unit_gets_its_secrets_as_credentials(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    text = (DEPLOY / "systemd" / name).read_text()
    credentials = dict(re.findall(r"^LoadCredential=(\w+):(\S+)$", text, re.MULTILINE))
    kind = name.removeprefix("unlost-").partition(".")[0].rstrip("@")
    assert credentials == {one: f"/etc/unlost/{kind}/{one}" for one in credentials}
    for one in credentials:
        (tmp_path / one).write_text(VALUES.get(one, ""))
    lines = re.findall(r"^Environment=(.*)$", text, re.MULTILINE)
    given = dict(one.split("=", 1) for line in lines for one in line.split() if one.split("=", 1)[0].endswith("_FILE"))
    files = {key: value for key, value in given.items() if value.startswith("%d/")}
    assert files == {f"{one}_FILE": f"%d/{one}" for one in credentials}
    monkeypatch.chdir(tmp_path)
    for key, value in files.items():
        monkeypatch.setenv(key, value.replace("%d", str(tmp_path)))
    loaded = OF_UNITS[name].load({})
    assert {one: getattr(loaded, one.lower()).reveal() for one in credentials} == {
        one: VALUES.get(one, "") for one in credentials
    }
    assert "\nLimitCORE=0\n" in text


@pytest.mark.parametrize("name", OF_UNITS)
def test_systemd_finds_no_unit_exposed(name: str, tmp_path: Path):
    analyze = needed("systemd-analyze", package="systemd")
    file = tmp_path / name.replace("@.", "@a.")
    file.write_text((DEPLOY / "systemd" / name).read_text())
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", "--threshold=20", str(file)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_all_units_that_share_letters_run_as_the_same_user():
    users = {
        unit.name: [line for line in unit.read_text().splitlines() if line.startswith("User=")]
        for unit in UNITS
        if "failed_events.jsonl" in unit.read_text()
    }
    names = ("unlost-audit.service", "unlost-console.service", "unlost-listener@.service")
    assert users == {name: ["User=unlost"] for name in names}


def test_the_audit_is_confined():
    (job,) = (one for one in MANIFESTS if one["kind"] == "CronJob")
    pod = job["spec"]["jobTemplate"]["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert pod["spec"]["securityContext"]["runAsNonRoot"]
    known = {name.upper() for name in AuditSettings.model_fields} | secret_names(AuditSettings)
    assert {one["name"] for one in container["env"]} <= known


def test_each_component_has_a_secret_of_its_own_as_files():
    pods = {one["metadata"]["name"]: one["spec"]["template"] for one in WORKLOADS}
    (job,) = (one for one in MANIFESTS if one["kind"] == "CronJob")
    pods["unlost-audit"] = job["spec"]["jobTemplate"]["spec"]["template"]
    for name, pod in pods.items():
        secrets = {one["secret"]["secretName"] for one in pod["spec"]["volumes"] if "secret" in one}
        assert secrets - {"unlost-tokens"} == {name}
        for container in pod["spec"]["containers"]:
            assert "envFrom" not in container
            assert not any("secretKeyRef" in one.get("valueFrom", {}) for one in container["env"])


@pytest.mark.parametrize(
    "service", [one for _, _, one in SERVICES], ids=[f"{project} {name}" for project, name, _ in SERVICES]
)
def test_every_container_is_confined_and_publishes_on_loopback_alone(service: dict[str, Any]):
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    assert "password" not in {key.lower() for key in service.get("environment", {})}
    assert service["ulimits"] == {"core": 0}
    lasting = service["restart"] != "no"
    assert lasting is bool(service.get("deploy")), "long-running services have limits"
    answers = service.get("command") != ["unlost", "audit", "--every", "1h"]
    unchecked = service.get("healthcheck", {}).get("disable", False)
    assert not (lasting and answers and unchecked), "long-running services have a health check"


@pytest.mark.parametrize("name", SETTINGS)
def test_compose_sets_only_what_is_known_and_keeps_the_defaults(name: str):
    fields = SETTINGS[name].model_fields
    environment = {key: str(value) for key, value in OURS[name]["environment"].items()}
    known = (
        {field.upper() for field in fields}
        | secret_names(SETTINGS[name])
        | NOT_OURS
        | ASKED_BY_OTHER_TOOLS.get(name, set())
    )
    assert set(environment) <= known
    for key, value in environment.items():
        found = re.fullmatch(rf"\$\{{{key}:-(.+)\}}", value)
        if found:
            assert str(fields[key.lower()].default) in (found[1], f"{found[1]}.0"), key


def test_the_console_has_the_handler_and_the_letters_of_every_listener():
    console = OURS["console"]
    listeners = {name: one for name, one in OURS.items() if name.startswith("listener")}
    assert console["environment"]["LISTENERS"] == ",".join(f"http://{name}:3000" for name in listeners)
    for listener in listeners.values():
        (letters,) = (volume.split(":")[0] for volume in listener["volumes"] if volume.startswith("letters"))
        (mounted,) = (volume for volume in console["volumes"] if volume.startswith(f"{letters}:"))
        assert not mounted.endswith(":ro"), "it replays"
        assert f"{mounted.split(':')[1]}/failed_events.jsonl" in console["environment"]["LETTERS"].split(",")
        same = ("HANDLER", "HANDLE_TIMEOUT", "LEASE", "REDIS_URL_FILE", "HANDLER_ROLE", "MIGRATE")
        assert {key: console["environment"][key] for key in same} == {key: listener["environment"][key] for key in same}
        assert console["environment"]["REPLAY_DATABASE_URL"] == listener["environment"]["DATABASE_URL"]


@pytest.mark.parametrize("project", [PROJECT, HA], ids=lambda one: str(one["name"]))
def test_an_audit_each_hour_reads_the_letters_of_every_listener_and_changes_none(project: dict[str, Any]):
    audit, listeners = project["services"]["audit"], [one for one in project["services"] if one.startswith("listener-")]
    asked = audit["environment"]
    assert asked["LISTENERS"] == ",".join(f"http://{name}:3000" for name in listeners)
    letters = [f"/letters/{name.removeprefix('listener-')}" for name in listeners]
    assert asked["LETTERS"] == ",".join(f"{one}/failed_events.jsonl" for one in letters)
    mounted = [one for one in audit["volumes"] if one.startswith("letters-")]
    assert mounted == [f"letters-{one[-1]}:{one}:ro" for one in letters]
    assert asked["DATABASE_URL"] == project["services"]["console"]["environment"]["DATABASE_URL"], "the console's role"
    assert set(asked) <= {name.upper() for name in AuditSettings.model_fields} | secret_names(AuditSettings) | NOT_OURS


def test_no_daemon_is_a_superuser_of_postgresql():
    superuser = f"//{PROJECT['services']['postgres']['environment']['POSTGRES_USER']}@"
    ours = {name: one for name, one in OURS.items() if superuser in str(one.get("environment"))}
    assert set(ours) == {"migrate", "tools"}
    assert all(one["restart"] == "no" for one in ours.values())


KINDS = {"producer": ProducerSettings, "listener": ListenerSettings, "console": ConsoleSettings}


@pytest.mark.parametrize("name", [name for name in HA["services"] if name.split("-")[0] in KINDS])
def test_several_servers_get_only_what_is_known(name: str):
    settings: Any = KINDS[name.split("-")[0]]
    known = {field.upper() for field in settings.model_fields} | secret_names(settings) | NOT_OURS
    service = HA["services"][name]
    assert set(service["environment"]) <= known
    assert "//unlost@" not in str(service["environment"]), "no daemon is a superuser"


def test_no_part_of_several_servers_is_alone():
    names = [name.rpartition("-")[0] for name in HA["services"]]
    assert (names.count("redis"), names.count("sentinel"), names.count("producer"), names.count("listener")) == (
        3,
        3,
        2,
        4,
    )
    assert {"postgres", "standby", "balancer"} <= set(HA["services"])
