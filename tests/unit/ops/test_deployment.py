"""What others run us with is accepted by their own checks: Kubernetes' schemas, and systemd's."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from listener.settings import ListenerSettings
from producer.settings import ProducerSettings
from tests.support.needed import needed

OPS = Path(__file__).parents[3] / "ops"
MANIFESTS: list[dict[str, Any]] = list(yaml.safe_load_all((OPS / "kubernetes" / "unlost.yaml").read_text()))
WORKLOADS = [one for one in MANIFESTS if one["kind"] == "StatefulSet"]
UNITS = sorted((OPS / "systemd").glob("*.service"))


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_kubernetes_accepts_each_manifest(manifest: dict[str, Any]):
    kubernetes_validate.validate(manifest, "1.32", strict=True)


@pytest.mark.parametrize(
    ("workload", "settings"),
    [(WORKLOADS[0], ProducerSettings), (WORKLOADS[1], ListenerSettings)],
    ids=["producer", "listener"],
)
def test_pods_are_confined_and_end_later_than_their_drain(workload: dict[str, Any], settings: Any):
    pod = workload["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert pod["securityContext"]["runAsNonRoot"]
    waited = int(container["lifecycle"]["preStop"]["exec"]["command"][1])
    drain = settings.model_fields["drain"].default if "drain" in settings.model_fields else 0
    assert pod["terminationGracePeriodSeconds"] > waited + drain
    known = {name.upper() for name in settings.model_fields}
    assert {one["name"] for one in container["env"]} <= known
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
    assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"


@pytest.mark.parametrize("unit", UNITS, ids=lambda one: one.name)
def test_systemd_accepts_each_unit(unit: Path, tmp_path: Path):
    analyze = needed("systemd-analyze", package="systemd")
    name = unit.name.replace("@.", "@a.")
    text = unit.read_text().replace("/opt/unlost/bin/", f"{shutil.which('true')} #")
    (tmp_path / name).write_text(text)
    checked = subprocess.run(
        [analyze, "verify", "--man=no", str(tmp_path / name)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")
