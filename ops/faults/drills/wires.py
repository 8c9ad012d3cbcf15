"""Fault proxies on every wire of every listener, through Toxiproxy's HTTP interface (its stand-in has the same one)."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import httpx

from unlost.ops.faults.drills.stage import StageError
from unlost.ops.system.child import Child
from unlost.ops.system.layout import NAMES, Ports
from unlost.ops.system.ports import LOOPBACK

WIRES = ("redis", "postgres", "source")
CALL_SECONDS = 5.0
READY_SECONDS = 20.0


class ProxyWires:
    """Proxies named ``LISTENER-WIRE``, created through Toxiproxy's HTTP interface."""

    def __init__(self, api_url: str) -> None:
        self._api_url = api_url
        self._ports: dict[tuple[str, int], int] = {}
        self._client = httpx.Client(base_url=api_url, timeout=CALL_SECONDS, trust_env=False)

    def make(self, listener: str, wire: str, upstream: int) -> None:
        """Put a proxy in front of a port."""
        proxy = {"name": f"{listener}-{wire}", "listen": f"{LOOPBACK}:0", "upstream": f"{LOOPBACK}:{upstream}"}
        answer = self._client.post("/proxies", json=proxy).raise_for_status().json()
        self._ports[listener, upstream] = int(answer["listen"].rpartition(":")[2])

    def route(self, listener: str, url: str) -> str:
        """Return the URL with the proxy's address in place of the server's."""
        parts = urlsplit(url)
        port = self._ports.get((listener, parts.port or 0))
        if port is None:
            return url
        before, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{before}{at}{LOOPBACK}:{port}"))

    async def add(self, listener: str, wire: str, kind: str, **attributes: float) -> None:
        """Add a toxic to the data that flows to the listener."""
        toxic = {"name": kind, "type": kind, "stream": "downstream", "toxicity": 1.0, "attributes": attributes}
        self._call("POST", f"/proxies/{listener}-{wire}/toxics", toxic)

    async def cut(self, listener: str, wire: str) -> None:
        """Cut the wire's connections and refuse new ones."""
        self._call("POST", f"/proxies/{listener}-{wire}", {"enabled": False})

    async def repair(self, listener: str, wire: str) -> None:
        """Remove all toxics from this wire, and accept connections."""
        proxy = f"/proxies/{listener}-{wire}"
        for toxic in self._call("GET", f"{proxy}/toxics").json():
            self._call("DELETE", f"{proxy}/toxics/{toxic['name']}")
        self._call("POST", proxy, {"enabled": True})

    def close(self) -> None:
        """Close the connection to the proxy server."""
        self._client.close()

    def _call(self, method: str, path: str, body: dict[str, object] | None = None) -> httpx.Response:
        try:
            return self._client.request(method, path, json=body).raise_for_status()
        except httpx.HTTPError as error:
            raise StageError(f"the fault proxy at {self._api_url} did not do {method} {path}: {error}") from error


@contextmanager
def proxied(data: Path, ports: Ports, needed: bool) -> Iterator[ProxyWires | None]:
    """If needed, run a private fault proxy server with a wire for each listener and server."""
    if not needed:
        yield None
        return
    log = data / "logs" / "toxics.log"
    child = Child(
        "toxics", [sys.executable, "-m", "unlost.ops.faults.toxics", "--host", LOOPBACK, "--port", "0"], log=log
    )
    child.start()
    try:
        child.wait_until(lambda: log.exists() and b"}" in log.read_bytes(), READY_SECONDS)
        lines = log.read_text().splitlines()
        port = next(json.loads(line)["port"] for line in lines if line.startswith('{"port"'))
        wires = ProxyWires(f"http://{LOOPBACK}:{port}")
        for name in NAMES[: len(ports.listeners)]:
            for wire, upstream in zip(WIRES, (ports.redis, ports.postgres, ports.stream), strict=True):
                wires.make(name, wire, upstream)
        yield wires
        wires.close()
    finally:
        child.stop(5)
