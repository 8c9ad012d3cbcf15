"""Certificates of authorities that exist for one test, and TLS in front of servers that have none."""

import asyncio
import contextlib
import datetime
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.x509.oid import NameOID

SSL_REQUEST = (8).to_bytes(4, "big") + (80877103).to_bytes(4, "big")
"""How a client of PostgreSQL asks for TLS; the answer is ``S``."""
SHORT = {NameOID.ORGANIZATION_NAME: "O", NameOID.ORGANIZATIONAL_UNIT_NAME: "OU", NameOID.COMMON_NAME: "CN"}
PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


@dataclass(frozen=True)
class Pair:
    """A certificate with its key in one file."""

    file: Path

    @property
    def subject(self) -> str:
        """As it stands in TOKENS_FILE."""
        certificate = x509.load_pem_x509_certificate(self.file.read_bytes())
        return ",".join(f"{SHORT[one.oid]}={one.value!s}" for one in certificate.subject)

    def context(self, *, requires: Path | None = None) -> ssl.SSLContext:
        """A server's context; ``requires``: the authority of client certificates."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file)
        if requires is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(requires)
        return context


class Authority:
    """An authority, and what it has signed."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        self._name = name
        self._ca = trustme.CA(organization_name=name)
        self.file = directory / f"{name}.pem"
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, name: str, *identities: str, expired: bool = False, common_name: str | None = None) -> Pair:
        """Sign a certificate; by default for this machine's own addresses."""
        leaf = self._ca.issue_cert(
            *(identities or ("127.0.0.1", "localhost")), common_name=common_name,
            not_before=PAST if expired else None, not_after=PAST + datetime.timedelta(days=1) if expired else None,
        )  # fmt: skip
        file = self._directory / f"{self._name}-{name}.pem"
        leaf.private_key_and_cert_chain_pem.write_to_path(file)
        return Pair(file)


@contextlib.asynccontextmanager
async def tls_before(context: ssl.SSLContext, port: int | None = None, *, postgres: bool = False) -> AsyncIterator[int]:
    """Listen with TLS, and pass what comes to ``port``. Yields the port on which it listens."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if postgres:
                if await reader.readexactly(8) != SSL_REQUEST:
                    return
                writer.write(b"S")
                await writer.drain()
                await writer.start_tls(context, ssl_handshake_timeout=5)
            if port is not None:
                there, back = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(_pass(reader, back), _pass(there, writer))
            else:
                await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=None if postgres else context)
    async with server:
        yield server.sockets[0].getsockname()[1]


@contextlib.contextmanager
def demanding(context: ssl.SSLContext, *, postgres: bool = False) -> Iterator[int]:
    """A server that requires client certificates, and says so as real ones do: asyncio closes without the alert."""
    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            with contextlib.suppress(OSError), client, client.dup() as raw:
                if postgres and client.recv(8) == SSL_REQUEST:
                    client.sendall(b"S")
                with contextlib.suppress(ssl.SSLError):
                    context.wrap_socket(client, server_side=True)
                raw.settimeout(2)
                while raw.recv(4096):  # closed with unread data, the connection is reset, and the alert may be lost
                    pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join(5)


async def _pass(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
    sink.close()
