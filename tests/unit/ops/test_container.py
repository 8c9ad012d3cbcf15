"""What only containers need: a generated password, a health check, and what the compose file must not contain."""

import re
import stat
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from unlost.ops.deploy.container.passwords import provide
from unlost.ops.deploy.container.probe import probe

COMPOSE = (Path(__file__).parents[3] / "docker-compose.yml").read_text()


def test_a_password_is_made_once_for_its_owner_alone(tmp_path):
    assert provide(tmp_path)
    password = (tmp_path / "password").read_text()
    assert len(password) >= 32
    assert not provide(tmp_path)
    assert (tmp_path / "password").read_text() == password
    assert (tmp_path / "pgpass").read_text() == f"*:*:*:unlost:{password}\n"
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}


def test_a_half_written_password_is_made_anew(tmp_path):
    (tmp_path / "password.new").write_text("half")
    assert provide(tmp_path)
    assert (tmp_path / "password").read_text() != "half"


@pytest.mark.parametrize("status", [200, 503])
def test_the_probe_tells_ready_from_unready_and_why(status):
    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"the reason")

        def log_message(self, *_args):
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        assert probe(f"http://127.0.0.1:{server.server_port}/health/ready", 20) == (status == 200, "the reason")
        thread.join()


def test_the_probe_takes_a_refusal_for_no():
    well, said = probe("http://127.0.0.1:1/health/ready")
    assert not well
    assert "does not answer" in said


def test_compose_publishes_on_loopback_alone_and_holds_no_password():
    published = [port for line in re.findall(r"ports: \[(.*)\]", COMPOSE) for port in re.findall(r'"([^"]+)"', line)]
    assert len(published) >= 4
    assert all(port.startswith("127.0.0.1:") for port in published)
    assert not re.search(r"(?i)\bPOSTGRES_PASSWORD|PGPASSWORD|requirepass|://\w+:\w+@", COMPOSE)
