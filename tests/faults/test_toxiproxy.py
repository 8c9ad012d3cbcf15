"""The promises of a Toxiproxy server, checked on the stand-in and, if available, on a real server."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest
from toxiproxy import Toxiproxy
from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists
from toxiproxy.proxy import Proxy

SLACK = 0.05
"""Timers of the two machines may differ by this."""


class EchoServer:
    """Sends back what it receives, and closes connections on request."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._server.getsockname()[1]}"
        self.clients: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                self.clients.append(client)
                threading.Thread(target=self._echo, args=(client,), daemon=True).start()

    def _echo(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                client.sendall(data)
        client.close()

    def close(self) -> None:
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        for client in self.clients:
            client.close()


@pytest.fixture(scope="module")
def echo() -> Iterator[EchoServer]:
    server = EchoServer()
    yield server
    server.close()


@pytest.fixture
def proxy(toxiproxy: Toxiproxy, echo: EchoServer) -> Proxy:
    return toxiproxy.create(name="echo", upstream=echo.address)


@pytest.fixture
def api(toxiproxy_port: int) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://127.0.0.1:{toxiproxy_port}", trust_env=False) as client:
        yield client


def connected(proxy: Proxy) -> socket.socket:
    host, _, port = proxy.listen.rpartition(":")
    return socket.create_connection((host, int(port)), timeout=10)


def said_back(client: socket.socket, data: bytes) -> bytes:
    client.sendall(data)
    got = b""
    while len(got) < len(data) and (more := client.recv(65536)):
        got += more
    return got


def seconds(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return time.monotonic() - started


def ended(client: socket.socket) -> bool:
    """Whether the connection ends, in whatever way."""
    try:
        return client.recv(65536) == b""
    except ConnectionResetError:
        return True


# -- proxies ------------------------------------------------------------------------------------


def test_the_server_shows_its_version_and_that_it_runs(toxiproxy: Toxiproxy):
    assert toxiproxy.running()
    assert b"2." in toxiproxy.version()


def test_a_proxy_without_toxics_passes_everything_both_ways(proxy: Proxy):
    data = bytes(range(256)) * 4096
    with connected(proxy) as client:
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        got = b""
        while len(got) < len(data):
            got += client.recv(65536)
        sender.join()
    assert got == data


def test_a_proxy_is_shown_listed_and_destroyed(toxiproxy: Toxiproxy, proxy: Proxy, echo: EchoServer):
    assert set(toxiproxy.proxies()) == {"echo"}
    found = toxiproxy.get_proxy("echo")
    assert (found.upstream, found.enabled, found.listen) == (echo.address, True, proxy.listen)
    assert not proxy.listen.endswith(":0")
    toxiproxy.destroy(proxy)
    assert toxiproxy.proxies() == {}
    with pytest.raises(ConnectionRefusedError):
        connected(proxy)


def test_a_name_is_given_once(toxiproxy: Toxiproxy, proxy: Proxy, api: httpx.Client):
    with pytest.raises(ProxyExists):
        toxiproxy.create(name="echo", upstream=proxy.upstream)
    assert api.post("/proxies", json={"name": "echo", "upstream": proxy.upstream}).status_code == 409


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"{", 400), (b'{"upstream":"127.0.0.1:1"}', 400), (b'{"name":"x"}', 400), (b'{"name":1,"upstream":"h:1"}', 400)],
)
def test_a_proxy_described_in_part_is_refused(api: httpx.Client, toxiproxy: Toxiproxy, body: bytes, status: int):
    answer = api.post("/proxies", content=body)
    assert (answer.status_code, answer.json()["status"]) == (status, status)
    assert toxiproxy.proxies() == {}


def test_asking_for_something_missing_is_refused(toxiproxy: Toxiproxy, proxy: Proxy, api: httpx.Client):
    assert api.get("/proxies/other").status_code == 404
    assert api.get("/proxies/echo/toxics/other").status_code == 404
    with pytest.raises(NotFound):
        proxy.destroy_toxic("other")
    proxy.destroy()
    with pytest.raises(NotFound):
        proxy.destroy()


def test_populating_keeps_what_is_the_same_and_renews_what_is_not(
    toxiproxy: Toxiproxy, proxy: Proxy, api: httpx.Client, echo: EchoServer
):
    other = {"name": "other", "listen": "127.0.0.1:0", "upstream": echo.address}
    with connected(proxy) as client:
        same = {"name": "echo", "listen": proxy.listen, "upstream": echo.address}
        answer = api.post("/populate", json=[same, other])
        assert (answer.status_code, len(answer.json()["proxies"])) == (201, 2)
        assert said_back(client, b"still here") == b"still here"
        api.post("/populate", json=[same | {"upstream": "127.0.0.1:1"}])
        assert ended(client)
    assert toxiproxy.get_proxy("echo").upstream == "127.0.0.1:1"
    assert [one.name for one in toxiproxy.populate([{"name": "third", "listen": "127.0.0.1:0", "upstream": "h:1"}])]
    assert set(toxiproxy.proxies()) == {"echo", "other", "third"}


def test_a_disabled_proxy_drops_its_connections_and_refuses_until_it_is_enabled(proxy: Proxy):
    with connected(proxy) as client:
        assert said_back(client, b"a") == b"a"
        with proxy.down():
            assert ended(client)
            with pytest.raises(ConnectionRefusedError):
                connected(proxy)
    with connected(proxy) as client:
        assert said_back(client, b"b") == b"b"


def test_a_proxy_may_begin_disabled(toxiproxy: Toxiproxy, echo: EchoServer):
    proxy = toxiproxy.create(name="later", upstream=echo.address, enabled=False)
    assert not proxy.enabled
    proxy.enable()
    with connected(toxiproxy.get_proxy("later")) as client:
        assert said_back(client, b"a") == b"a"


def test_a_reset_enables_every_proxy_and_lifts_every_toxic(toxiproxy: Toxiproxy, proxy: Proxy):
    proxy.add_toxic(type="latency", attributes={"latency": 5000})
    proxy.disable()
    toxiproxy.reset()
    assert proxy.toxics() == {}
    with connected(proxy) as client:
        assert said_back(client, b"a") == b"a"


def test_a_server_that_refuses_is_a_connection_that_ends(toxiproxy: Toxiproxy):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        upstream = f"127.0.0.1:{gone.getsockname()[1]}"
    with connected(toxiproxy.create(name="gone", upstream=upstream)) as client:
        assert ended(client)


def test_the_end_of_the_server_is_the_end_of_the_client(proxy: Proxy, echo: EchoServer):
    with connected(proxy) as client:
        assert said_back(client, b"a") == b"a"
        echo.clients[-1].shutdown(socket.SHUT_RDWR)
        assert ended(client)


# -- toxics -------------------------------------------------------------------------------------


def test_a_toxic_has_defaults_and_is_shown_changed_and_lifted(proxy: Proxy, api: httpx.Client):
    proxy.add_toxic(type="latency", attributes={"latency": 20})
    toxic = proxy.get_toxic("latency_downstream")
    assert (toxic.type, toxic.stream, toxic.toxicity) == ("latency", "downstream", 1.0)
    assert toxic.attributes == {"latency": 20, "jitter": 0}
    changed = api.post("/proxies/echo/toxics/latency_downstream", json={"attributes": {"jitter": 5}, "toxicity": 0.5})
    assert changed.json()["attributes"] == {"latency": 20, "jitter": 5}
    assert api.get("/proxies/echo/toxics/latency_downstream").json() == changed.json()
    assert api.get("/proxies/echo").json()["toxics"] == [changed.json()]
    assert proxy.destroy_toxic("latency_downstream")
    assert proxy.toxics() == {}


@pytest.mark.parametrize(
    "toxic",
    [
        {"type": "plague"},
        {"type": "latency", "stream": "sideways"},
        {"type": "latency", "attributes": {"latency": "long"}},
    ],
)
def test_a_toxic_that_makes_no_sense_is_refused(proxy: Proxy, toxic: dict):
    with pytest.raises(InvalidToxic):
        proxy.add_toxic(**toxic)
    assert proxy.toxics() == {}


def test_a_toxics_name_is_given_once(proxy: Proxy):
    proxy.add_toxic(type="latency")
    with pytest.raises(ProxyExists):
        proxy.add_toxic(type="latency")


@pytest.mark.parametrize("stream", ["upstream", "downstream"])
def test_latency_delays_and_a_healed_connection_is_quick_again(proxy: Proxy, stream: str):
    with connected(proxy) as client:
        proxy.add_toxic(name="slow", type="latency", stream=stream, attributes={"latency": 200, "jitter": 20})
        assert 0.18 - SLACK < seconds(lambda: said_back(client, b"a")) < 5
        proxy.add_toxic(name="slower", type="latency", stream=stream, attributes={"latency": 200})
        assert seconds(lambda: said_back(client, b"a")) > 0.38 - SLACK
        proxy.destroy_toxic("slow")
        proxy.destroy_toxic("slower")
        assert seconds(lambda: said_back(client, b"a")) < 0.2


def test_lifting_a_toxic_releases_the_bytes_that_it_delays(proxy: Proxy):
    proxy.add_toxic(name="slow", type="latency", attributes={"latency": 60_000})
    with connected(proxy) as client:
        client.sendall(b"a")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(10)
        proxy.destroy_toxic("slow")
        assert client.recv(1) == b"a"


def test_bandwidth_bounds_the_rate(proxy: Proxy):
    proxy.add_toxic(type="bandwidth", attributes={"rate": 100})
    with connected(proxy) as client:
        assert 0.5 - SLACK < seconds(lambda: said_back(client, bytes(50_000))) < 10


def test_slow_close_holds_the_end_back(proxy: Proxy, echo: EchoServer):
    proxy.add_toxic(type="slow_close", attributes={"delay": 300})
    with connected(proxy) as client:
        assert said_back(client, b"a") == b"a"
        echo.clients[-1].shutdown(socket.SHUT_RDWR)
        assert seconds(lambda: ended(client)) > 0.3 - SLACK


def test_a_timeout_swallows_everything_and_ends_the_connection_in_time(proxy: Proxy):
    proxy.add_toxic(type="timeout", attributes={"timeout": 300})
    with connected(proxy) as client:
        client.sendall(b"never")
        assert seconds(lambda: ended(client)) > 0.3 - SLACK


def test_an_endless_timeout_ends_the_connection_when_it_is_lifted(proxy: Proxy):
    with connected(proxy) as client:
        assert said_back(client, b"a") == b"a"
        proxy.add_toxic(name="silence", type="timeout", attributes={"timeout": 0})
        client.sendall(b"never")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(10)
        proxy.destroy_toxic("silence")
        assert ended(client)


def test_reset_peer_resets(proxy: Proxy):
    proxy.add_toxic(type="reset_peer", attributes={"timeout": 0})
    with pytest.raises(ConnectionResetError), connected(proxy) as client:  # whichever call notices it first
        said_back(client, b"a")


def test_reset_peer_waits_for_something_to_reset(proxy: Proxy):
    with connected(proxy) as client:
        assert said_back(client, b"a") == b"a"
        proxy.add_toxic(type="reset_peer", attributes={"timeout": 0})
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(10)
        with pytest.raises(ConnectionResetError):
            said_back(client, b"b")


def test_the_end_of_the_sender_comes_through_a_silence(proxy: Proxy, echo: EchoServer):
    with connected(proxy) as client:
        assert said_back(client, b"a") == b"a"
        proxy.add_toxic(type="timeout", attributes={"timeout": 0})
        echo.clients[-1].shutdown(socket.SHUT_RDWR)
        assert ended(client)


def test_a_slicer_sends_piece_by_piece(proxy: Proxy):
    proxy.add_toxic(type="slicer", attributes={"average_size": 10, "size_variation": 2, "delay": 20_000})
    with connected(proxy) as client:
        started = time.monotonic()
        assert said_back(client, bytes(100)) == bytes(100)
        assert time.monotonic() - started > 0.14 - SLACK


def test_limited_data_ends_the_connection_after_its_last_byte(proxy: Proxy):
    proxy.add_toxic(type="limit_data", attributes={"bytes": 7})
    with connected(proxy) as client:
        client.sendall(b"0123456789")
        got = b""
        while more := client.recv(100):
            got += more
        assert got == b"0123456"


def test_no_toxicity_is_no_toxic(proxy: Proxy):
    proxy.add_toxic(type="reset_peer", toxicity=0.0, attributes={"timeout": 0})
    with connected(proxy) as client:
        assert said_back(client, b"a") == b"a"


def test_half_toxicity_strikes_some_connections_and_spares_others(proxy: Proxy):
    proxy.add_toxic(type="limit_data", toxicity=0.5, attributes={"bytes": 0})
    struck = []
    for _ in range(40):
        with connected(proxy) as client:
            struck.append(said_back(client, b"a") == b"")
    assert {True, False} == set(struck)


async def test_many_connections_at_once(proxy: Proxy):
    host, _, port = proxy.listen.rpartition(":")

    async def one(number: int) -> bool:
        reader, writer = await asyncio.open_connection(host, int(port))
        data = bytes([number]) * 10_000
        writer.write(data)
        got = await reader.readexactly(len(data))
        writer.close()
        return got == data

    assert all(await asyncio.gather(*(one(number) for number in range(50))))
