"""Settings of TLS: a server's certificate, and what clients of PostgreSQL, Redis and a source trust and show.

The drivers of PostgreSQL and Redis read what they need from the query of an address. So the files are written into the
address once, here, and every command that is given the address uses them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl, quote, urlsplit

from pydantic import Field, model_validator

from unlost.ops.kit.access.hosts import is_loopback
from unlost.ops.kit.command import Settings
from unlost.ops.kit.telemetry.address import split_address
from unlost.ops.kit.telemetry.tls import ClientTls, ServerTls, WrongCertificate

VERIFIED = "verify-full"


class ServerTlsSettings(Settings):
    """The certificate of a server."""

    tls_cert: Path | None = Field(None, description="Certificate (PEM) for HTTPS and wss://; none: without TLS")
    tls_key: Path | None = Field(None, description="Its key, if that is not in the same file")
    tls_client_ca: Path | None = Field(
        None, description="Authority of client certificates; their subjects stand in TOKENS_FILE"
    )

    @model_validator(mode="after")
    def _tls_fits(self) -> Self:
        if (self.tls_key or self.tls_client_ca) and self.tls_cert is None:
            raise ValueError("--tls-key (TLS_KEY) and --tls-client-ca (TLS_CLIENT_CA) need --tls-cert (TLS_CERT)")
        if self.tls_client_ca and getattr(self, "tokens_file", None) is None:
            raise ValueError(
                "--tls-client-ca (TLS_CLIENT_CA) needs --tokens-file (TOKENS_FILE), which says what each subject may do"
            )
        self.tls()
        return self

    def tls(self) -> ServerTls | None:
        """The certificate, or None without TLS."""
        if self.tls_cert is None:
            return None
        try:
            return ServerTls(self.tls_cert, self.tls_key, self.tls_client_ca)
        except WrongCertificate as error:
            raise ValueError(f"--tls-cert (TLS_CERT): {error}") from None


class DatabaseTlsSettings(Settings):
    """How PostgreSQL is verified."""

    database_ca: Path | None = Field(None, description="Authority that signed PostgreSQL's certificate")
    database_cert: Path | None = Field(None, description="Client certificate for PostgreSQL")
    database_key: Path | None = Field(None, description="Its key, if that is not in the same file")

    @model_validator(mode="before")
    @classmethod
    def _database_files_in_the_address(cls, data: Any) -> Any:
        files = {"database_ca": "sslrootcert", "database_cert": "sslcert", "database_key": "sslkey"}
        for name in ("database_url", "database_read_url"):
            data = _with_files(data, name, files, sslmode=VERIFIED)
        return data

    @model_validator(mode="after")
    def _database_files_are_good(self) -> Self:
        _check("database", self.database_ca, self.database_cert, self.database_key)
        return self


class RedisTlsSettings(Settings):
    """How Redis is verified."""

    redis_ca: Path | None = Field(None, description="Authority that signed the certificate of Redis")
    redis_cert: Path | None = Field(None, description="Client certificate for Redis")
    redis_key: Path | None = Field(None, description="Its key, if that is not in the same file")

    @model_validator(mode="before")
    @classmethod
    def _redis_files_in_the_address(cls, data: Any) -> Any:
        files = {"redis_ca": "ssl_ca_certs", "redis_cert": "ssl_certfile", "redis_key": "ssl_keyfile"}
        return _with_files(data, "redis_url", files)

    @model_validator(mode="after")
    def _redis_files_are_good(self) -> Self:
        _check("redis", self.redis_ca, self.redis_cert, self.redis_key)
        url = getattr(self, "redis_url", None)
        if (self.redis_ca or self.redis_cert) and url is not None and not url.reveal().startswith("rediss"):
            raise ValueError(
                "--redis-ca (REDIS_CA) and --redis-cert (REDIS_CERT) need --redis-url (REDIS_URL) rediss://"
            )
        return self


class SourceTlsSettings(Settings):
    """How a source is verified."""

    ws_ca: Path | None = Field(None, description="Authority that signed the certificate of a source at wss://")
    ws_cert: Path | None = Field(None, description="Client certificate for the source")
    ws_key: Path | None = Field(None, description="Its key, if that is not in the same file")

    @model_validator(mode="after")
    def _source_files_are_good(self) -> Self:
        _check("ws", self.ws_ca, self.ws_cert, self.ws_key)
        return self

    def source_tls(self) -> ClientTls:
        """The authorities that we accept from the source, and our own certificate."""
        return ClientTls(self.ws_ca, self.ws_cert, self.ws_key)


def _check(name: str, ca: Path | None, cert: Path | None, key: Path | None) -> None:
    if key and not cert:
        raise ValueError(f"--{name}-key ({name.upper()}_KEY) needs --{name}-cert ({name.upper()}_CERT)")
    if not ca and not cert:
        return
    try:
        ClientTls(ca, cert, key).context()
    except WrongCertificate as error:
        flag = f"{name}-{'ca' if ca and str(ca) in str(error) else 'cert'}"
        raise ValueError(f"--{flag} ({flag.replace('-', '_').upper()}): {error}") from None


def _with_files(data: Any, url_field: str, files: Mapping[str, str], **always: str) -> Any:
    """Put the files into the address that is given, unless its query names them."""
    if not isinstance(data, dict) or not data.get(url_field):
        return data
    given = {files[name]: str(data[name]) for name in files if data.get(name)}
    if not given:
        return data
    url = data[url_field]
    text = url.reveal() if hasattr(url, "reveal") else str(url)
    return {**data, url_field: with_query(text, {**always, **given})}


def with_query(url: str, options: Mapping[str, str]) -> str:
    """The address with these options in its query; those that it has already stay."""
    there = dict(parse_qsl(split_address(url).query, keep_blank_values=True))
    added = "&".join(f"{name}={quote(value, safe='/')}" for name, value in options.items() if name not in there)
    if not added:
        return url
    return f"{url}{'&' if '?' in url else '?'}{added}"


def unverified(database_url: str) -> str:
    """Why PostgreSQL at this address could be another server, in a sentence; an empty text if it could not."""
    parts = split_address(database_url)
    options = dict(parse_qsl(parts.query))
    mode = options.get("sslmode", "prefer")
    hosts = [urlsplit(f"//{one}").hostname or "" for one in parts.netloc.rpartition("@")[2].split(",")]
    remote = [
        one for one in (*hosts, options.get("host", "")) if one and not one.startswith("/") and not is_loopback(one)
    ]
    if mode == VERIFIED or not remote:
        return ""
    return (
        f"PostgreSQL at {', '.join(remote)} is not verified (sslmode={mode}): anybody on the way could take its place. "
        "Set DATABASE_CA, or sslmode=verify-full in DATABASE_URL"
    )
