"""Which pods may reach what, in the plain manifests and in the chart: policies are read as Kubernetes reads them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.helm_program import Helm, Manifest

ROOT = Path(__file__).parents[3]
PLAIN: list[Manifest] = list(yaml.safe_load_all((ROOT / "ops" / "deploy" / "kubernetes" / "unlost.yaml").read_text()))
PORTS = {"http": {"producer": 3005, "listener": 3000, "console": 3006}, "stream": {"producer": 8080}}
POSTGRES, REDIS, WEB, DNS = ("elsewhere", 5432), ("elsewhere", 6379), ("elsewhere", 443), ("kube-system", 53)
TARGETS = [
    ("producer", 3005), ("producer", 8080), ("listener", 3000), ("console", 3006), ("postgres", 5432), ("redis", 6379),
    POSTGRES, REDIS, WEB, DNS, ("elsewhere", 53), ("kube-system", 443),
]  # fmt: skip
EXPECTED = {
    "producer": {DNS, ("listener", 3000)},
    "listener": {DNS, ("producer", 8080), POSTGRES, REDIS},
    "console": {DNS, ("producer", 3005), ("listener", 3000), POSTGRES, REDIS},
    "audit": {DNS, ("producer", 3005), ("listener", 3000), POSTGRES},
}
WITH_MIGRATION = EXPECTED | {"migrate": {DNS, POSTGRES}}
OWN = {POSTGRES: ("postgres", 5432), REDIS: ("redis", 6379)}


class Network:
    """The policies of a release, and the labels of its pods by component."""

    def __init__(self, manifests: list[Manifest]) -> None:
        self._policies = [one["spec"] for one in manifests if one["kind"] == "NetworkPolicy"]
        self.pods = {name.removeprefix("unlost-"): labels for name, labels in _labels(manifests)}

    def reached_from(self, name: str) -> set[tuple[str, int]]:
        """Return which of the targets this pod may reach. Nothing is forbidden where no policy says so."""
        return {one for one in TARGETS if self._may(name, *one)}

    def governed(self, name: str, direction: str) -> bool:
        """Whether a policy restricts this direction of a pod."""
        return any(direction in one["policyTypes"] for one in self._of(name))

    def _may(self, source: str, target: str, port: int) -> bool:
        if target in PORTS["http"] | OWN_SERVERS and target not in self.pods:
            return False
        out = [one.get("egress", []) for one in self._of(source) if "Egress" in one["policyTypes"]]
        into = [one.get("ingress", []) for one in self._of(target) if "Ingress" in one["policyTypes"]]
        return (not out or any(self._allows(rule, "to", target, target, port) for rules in out for rule in rules)) and (
            not into or any(self._allows(rule, "from", source, target, port) for rules in into for rule in rules)
        )

    def _of(self, name: str) -> list[dict[str, Any]]:
        labels = self.pods.get(name)
        return [] if labels is None else [one for one in self._policies if _selects(one["podSelector"], labels)]

    def _allows(self, rule: dict[str, Any], side: str, peer: str, target: str, port: int) -> bool:
        ports = [_number(one["port"], target) for one in rule["ports"]]
        return port in ports and (not rule.get(side) or any(self._is(one, peer) for one in rule[side]))

    def _is(self, peer: dict[str, Any], name: str) -> bool:
        if "podSelector" in peer:
            return name in self.pods and _selects(peer["podSelector"], self.pods[name])
        if "ipBlock" in peer:
            return name == "elsewhere"
        return peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": name}


OWN_SERVERS = {"postgres": 5432, "redis": 6379}


def _labels(manifests: list[Manifest]) -> Iterator[tuple[str, dict[str, str]]]:
    for one in manifests:
        spec = one["spec"]["jobTemplate"]["spec"] if one["kind"] == "CronJob" else one.get("spec", {})
        if "template" in spec:
            labels = spec["template"]["metadata"]["labels"]
            yield labels["app"], labels


def _number(port: int | str, target: str) -> int:
    return port if isinstance(port, int) else PORTS[port].get(target, -1)


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    chosen = all(labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", ()))
    return chosen and selector.get("matchLabels", {}).items() <= labels.items()


@pytest.fixture
def by_default(helm: Helm) -> Network:
    return Network(helm.rendered())


def test_each_pod_of_the_plain_manifests_reaches_what_it_needs_and_nothing_else():
    network = Network(PLAIN)
    assert {name: network.reached_from(name) for name in network.pods} == EXPECTED


def test_each_pod_of_the_chart_reaches_what_it_needs_and_nothing_else(by_default: Network):
    assert {name: by_default.reached_from(name) for name in by_default.pods} == WITH_MIGRATION


def test_with_servers_of_the_release_only_these_are_reached(helm: Helm):
    network = Network(helm.rendered("bundled.enabled=true"))
    expected = {name: {OWN.get(one, one) for one in targets} for name, targets in WITH_MIGRATION.items()}
    assert {name: network.reached_from(name) for name in network.pods} == expected | {"postgres": set(), "redis": set()}


def test_every_pod_is_restricted_in_both_directions(helm: Helm):
    for network in (Network(PLAIN), Network(helm.rendered("bundled.enabled=true"))):
        assert all(network.governed(name, way) for name in network.pods for way in ("Ingress", "Egress"))


def test_producers_that_share_a_journal_reach_postgresql(helm: Helm):
    network = Network(helm.rendered("producer.journal=postgresql", "producer.replicas=2"))
    assert network.reached_from("producer") == EXPECTED["producer"] | {POSTGRES}


def test_the_handlers_egress_applies_to_listeners_and_replays(helm: Helm):
    web = "[0].to[0].ipBlock.cidr=203.0.113.0/24", "[0].ports[0].port=443"
    network = Network(helm.rendered(*(f"networkPolicy.egress.handler{one}" for one in web)))
    assert {name for name in network.pods if WEB in network.reached_from(name)} == {"listener", "console"}
    network = Network(helm.rendered(*(f"networkPolicy.egress.console{one}" for one in web)))
    assert {name for name in network.pods if WEB in network.reached_from(name)} == {"console"}
    network = Network(helm.rendered(*(f"networkPolicy.egress.producer{one}" for one in web)))
    assert {name for name in network.pods if WEB in network.reached_from(name)} == {"producer"}


def test_listeners_whose_effects_are_events_reach_the_producer(helm: Helm):
    network = Network(helm.rendered("listener.env.EFFECT_PRODUCER=http://unlost-producer:3005"))
    assert network.reached_from("listener") == EXPECTED["listener"] | {("producer", 3005)}


def test_addresses_and_ports_of_servers_are_values(helm: Helm):
    values = (
        "postgres.to[0].ipBlock.cidr=10.1.2.3/32",
        "postgres.ports[0]=6432",
        "redis.ports[1]=26379",
        "redis.ports[0]=6379",
    )
    rendered = helm.rendered(*(f"networkPolicy.egress.{one}" for one in values))
    (spec,) = (
        one["spec"] for one in rendered
        if one["kind"] == "NetworkPolicy" and one["metadata"]["name"] == "unlost-listener"
    )  # fmt: skip
    assert {"ports": [{"port": 6432}], "to": [{"ipBlock": {"cidr": "10.1.2.3/32"}}]} in spec["egress"]
    assert {"ports": [{"port": 6379}, {"port": 26379}]} in spec["egress"]


@pytest.mark.parametrize("wrong", ["postgres.ports[0]=0", "mysql.ports[0]=3306", "handler=443"])
def test_a_wrong_value_is_refused(helm: Helm, wrong: str):
    done = helm.run("template", "unlost", str(helm.chart), "--set", f"networkPolicy.egress.{wrong}")
    assert done.returncode
    assert "values don't meet the specifications of the schema" in done.stderr
