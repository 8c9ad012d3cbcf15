"""A real Prometheus with our rules that scrapes a local system every second, for tests and pictures of dashboards."""

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from unlost.ops.system.child import Child
from unlost.ops.system.layout import Layout
from unlost.ops.system.ports import free_port

RULES = Path(__file__).parents[1] / "ops" / "deploy" / "prometheus"


class Prometheus:
    """Queries to a running Prometheus."""

    def __init__(self, child: Child, client: httpx.Client) -> None:
        self._child = child
        self._client = client

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the present series of an expression. An error has Prometheus's own message."""
        answer = self.get("query", query=expression)
        return list(answer["result"])

    def get(self, path: str, **parameters: str) -> dict[str, Any]:
        """Call its API."""
        response = self._client.get(f"/api/v1/{path}", params=parameters)
        if response.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            raise httpx.ConnectError("Prometheus is still starting")
        answer = response.json()
        if answer["status"] != "success":
            raise ValueError(f"{parameters or path}: {answer['error']}")
        return dict(answer["data"])

    def wait_until(self, expression: str, within: float = 45.0) -> None:
        """Wait until the expression has a series."""
        self.wait(lambda: bool(self.query(expression)), within)

    def wait(self, so: Callable[[], bool], within: float = 45.0) -> None:
        """Wait until a condition holds."""

        def ready() -> bool:
            try:
                return so()
            except httpx.TransportError:
                return False

        self._child.wait_until(ready, within)


@contextlib.contextmanager
def running_prometheus(program: str, directory: Path, layout: Layout) -> Iterator[Prometheus]:
    """Run Prometheus with our rules; it scrapes all processes of a local system."""
    targets = _targets(layout)
    jobs = "".join(_job(*who, at) for who, at in targets.items())
    config = directory / "prometheus.yml"
    config.write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
        f"rule_files: ['{RULES}/rules.yml', '{RULES}/alerts.yml']\nscrape_configs:\n{jobs}"
    )
    address = f"127.0.0.1:{free_port()}"
    child = Child(
        "prometheus",
        [
            program,
            f"--config.file={config}", f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address={address}", "--log.level=warn",
        ],
        log=directory / "prometheus.log",
        environment=dict(os.environ),
    )  # fmt: skip
    child.start()
    try:
        with httpx.Client(base_url=f"http://{address}", timeout=10, trust_env=False) as client:
            prometheus = Prometheus(child, client)
            prometheus.wait_until(f"count(up == 1) == {len(targets)}")
            yield prometheus
    finally:
        child.stop()


def _targets(layout: Layout) -> Mapping[tuple[str, str], str]:
    """Job and instance of each process, as in ``prometheus.yml``, with its address."""
    urls = {("producer", "producer"): layout.producer_url}
    urls |= {("listener", name): url for name, url in zip(layout.listener_names, layout.listener_urls, strict=True)}
    if layout.console_url:
        urls["console", "console"] = layout.console_url
    return {who: url.removeprefix("http://") for who, url in urls.items()}


def _job(job: str, name: str, at: str) -> str:
    labels = f"{{job: {job}, instance: {name}}}"
    return f"  - job_name: {job}-{name}\n    static_configs: [{{targets: ['{at}'], labels: {labels}}}]\n"
