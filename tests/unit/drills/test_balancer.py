"""The balancer spreads both ports over the producers, and asks each at its HTTP port."""

import subprocess
from pathlib import Path

from tests.support.needed import needed
from unlost.ops.system.balancer import Balancer, Pair


def test_haproxy_accepts_the_configuration(tmp_path: Path):
    balancer = Balancer(tmp_path, Pair(3005, 8080), [Pair(3015, 8081), Pair(3025, 8082)])
    config = balancer.config()
    assert "bind 127.0.0.1:3005" in config
    assert [line.split()[2:] for line in config.splitlines() if line.startswith("  server")] == [
        ["127.0.0.1:3015", "check", "port", "3015"],
        ["127.0.0.1:3025", "check", "port", "3025"],
        ["127.0.0.1:8081", "check", "port", "3015"],
        ["127.0.0.1:8082", "check", "port", "3025"],
    ]
    file = tmp_path / "haproxy.cfg"
    file.write_text(config)
    haproxy = needed("haproxy", package="haproxy")
    checked = subprocess.run([haproxy, "-c", "-f", file], capture_output=True, text=True, timeout=30, check=False)
    assert checked.returncode == 0, checked.stderr
