"""For containers alone: a generated password, a health check, and what the compose file must not contain."""

import re
import stat
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from msgspec.structs import replace

from unlost.ops.deploy.container.probe import probe
from unlost.ops.deploy.container.secrets import provide
from unlost.ops.kit.access.table import TokenEntry, digest_of
from unlost.ops.kit.access.token_file import load_entries, load_table, save_entries

COMPOSE = (Path(__file__).parents[3] / "docker-compose.yml").read_text()


def test_a_password_is_made_once_for_its_owner_alone(tmp_path):
    assert provide(tmp_path)
    made = {file.relative_to(tmp_path): file.read_text() for file in tmp_path.rglob("*") if file.is_file()}
    password = (tmp_path / "postgres" / "password").read_text()
    assert len(password) >= 32
    of_listener = (tmp_path / "migrate" / "listener").read_text()
    assert len(of_listener) >= 32
    assert (tmp_path / "migrate" / "pgpass").read_text() == f"*:*:*:unlost:{password}\n"
    assert (tmp_path / "listener" / "pgpass").read_text() == f"*:*:*:unlost_listener:{of_listener}\n"
    of_console = (tmp_path / "migrate" / "console").read_text()
    assert (tmp_path / "audit" / "pgpass").read_text() == f"*:*:*:unlost_console:{of_console}\n"
    with_superuser = {
        file.parent.name for file in tmp_path.rglob("*") if file.is_file() and password in file.read_text()
    }
    assert with_superuser == {"postgres", "migrate", "tools"}, "no daemon but the server itself"
    assert not provide(tmp_path)
    assert {file.relative_to(tmp_path): file.read_text() for file in tmp_path.rglob("*") if file.is_file()} == made
    others = {file for file in tmp_path.rglob("*") if file.is_file() and stat.S_IMODE(file.stat().st_mode) != 0o600}
    assert {file.parent.name for file in others} == {"prometheus", "redis"}, "they have other users, each one directory"


def test_redis_knows_its_users_by_digests_and_clients_find_it(tmp_path):
    provide(tmp_path, "toxiproxy")
    claims = (tmp_path / "redis" / "claims").read_text()
    assert (tmp_path / "listener" / "redis.url").read_text() == f"redis://claims:{claims}@toxiproxy:6379/0"
    users = (tmp_path / "redis" / "users.acl").read_text()
    assert claims not in users
    assert users.splitlines()[0] == "user default on nopass resetkeys resetchannels -@all +ping"
    assert not provide(tmp_path, "redis")
    assert (tmp_path / "tools" / "redis.url").read_text() == f"redis://claims:{claims}@redis:6379/0"


def test_a_volume_of_an_earlier_version_gets_what_it_lacks(tmp_path):
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "password").write_text("earlier")
    assert provide(tmp_path)
    assert (tmp_path / "postgres" / "password").read_text() == "earlier"
    assert (tmp_path / "migrate" / "pgpass").read_text() == "*:*:*:unlost:earlier\n"


def test_each_container_has_a_token_of_its_own_and_others_stay(tmp_path):
    provide(tmp_path)
    file = tmp_path / "tokens" / "tokens.jsonl"
    token = (tmp_path / "listener" / "token").read_text()
    assert load_table(file).of_token(token).rights == {"read", "read:payload"}
    assert load_table(file).of_token(token).may_report("unlost")
    assert load_table(file).of_token((tmp_path / "audit" / "token").read_text()).rights == {"read"}
    assert (tmp_path / "listener" / "authorization").read_text() == f"Bearer {token}"
    save_entries(file, [*load_entries(file), TokenEntry("mine", ("publish",), digest_of("x"))])
    assert not provide(tmp_path)
    assert "mine" in {one.name for one in load_entries(file)}


def test_a_revoked_token_stays_revoked_at_the_next_start(tmp_path):
    provide(tmp_path)
    file = tmp_path / "tokens" / "tokens.jsonl"
    tools = (tmp_path / "tools" / "token").read_text()
    narrower = [replace(one, rights=("read",)) for one in load_entries(file) if one.name == "console"]
    save_entries(file, [one for one in load_entries(file) if one.name not in ("tools", "console")] + narrower)
    content = file.read_bytes()
    assert not provide(tmp_path)
    assert file.read_bytes() == content
    assert load_table(file).of_token(tools) is None

    (tmp_path / "tools" / "token").unlink()
    assert provide(tmp_path), "a container without a token gets a new one"
    assert load_table(file).of_token(tools) is None
    assert load_table(file).of_token((tmp_path / "tools" / "token").read_text()).may("admin")
    assert load_table(file).of_token((tmp_path / "console" / "token").read_text()).rights == {"read"}


def test_a_lost_file_of_tokens_brings_no_old_token_back(tmp_path):
    provide(tmp_path)
    before = (tmp_path / "tools" / "token").read_text()
    (tmp_path / "tokens" / "tokens.jsonl").unlink()
    assert provide(tmp_path)
    table = load_table(tmp_path / "tokens" / "tokens.jsonl")
    assert table.of_token(before) is None
    for name in ("producer", "listener", "console", "tools", "prometheus"):
        token = (tmp_path / name / "token").read_text()
        assert table.of_token(token).name == name
        assert (tmp_path / name / "authorization").read_text() == f"Bearer {token}"


def test_a_half_written_password_is_made_anew(tmp_path):
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres" / "password.new").write_text("half")
    assert provide(tmp_path)
    assert (tmp_path / "postgres" / "password").read_text() != "half"


@pytest.mark.parametrize("status", [200, 503])
def test_the_probe_distinguishes_ready_from_unready_and_says_why(status):
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


def test_with_sentinels_and_a_shared_journal_clients_find_both(tmp_path):
    provide(tmp_path, sentinels="s1:26379,s2:26379", shared_journal=True)
    claims = (tmp_path / "redis" / "claims").read_text()
    url = f"redis+sentinel://claims:{claims}@s1:26379,s2:26379/claims/0"
    assert (tmp_path / "listener" / "redis.url").read_text() == url
    of_producers = (tmp_path / "migrate" / "producer").read_text()
    assert (tmp_path / "producer" / "pgpass").read_text() == f"*:*:*:unlost_producer:{of_producers}\n"
    assert not provide(tmp_path, sentinels="s1:26379,s2:26379", shared_journal=True)
