"""Settings that every server has (who may use it, and under which names it is reached), and every client of it."""

import re
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, TypedDict

from pydantic import Field, model_validator

from unlost.ops.kit.access.hosts import Hosts, is_loopback
from unlost.ops.kit.access.limits import NONE, Limits
from unlost.ops.kit.access.sender_file import Senders
from unlost.ops.kit.access.table import WrongTokens
from unlost.ops.kit.access.tls_settings import ServerTlsSettings
from unlost.ops.kit.access.token_file import TokenFile
from unlost.ops.kit.access.watched_file import WatchedFile
from unlost.ops.kit.command import Secret, Settings, UsageProblem
from unlost.ops.kit.telemetry.redact import EVERYTHING, Redactor
from unlost.ops.kit.telemetry.tls import ClientTls, WrongCertificate

VALUE_PATH = r"[A-Za-z_][\w-]*(\.[\w-]+){0,7}"
"""The form of a path in an event: names with dots between them."""

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from unlost.ops.kit.access.gate import Gate


class RedactSettings(Settings):
    """The payload fields that are not shown."""

    redact: tuple[str, ...] = Field(
        (), description="Payload fields that only the right read:payload shows: names (card) or paths (customer.card)"
    )

    @model_validator(mode="after")
    def _fields_have_names(self) -> Self:
        if any(not part for one in self.redact for part in one.split(".")):
            raise ValueError("--redact (REDACT) has names such as card, or paths such as customer.card")
        return self

    def redactor(self) -> Redactor:
        """Make what masks them."""
        return Redactor(self.redact)


class CodecSettings(Settings):
    """How content is encoded where it is kept."""

    codec: str = Field(
        "", description="package.module:Codec that encrypts events at rest; none: they are kept as they are"
    )
    codec_keys: Path | None = Field(None, description="Key file of CODEC, made by `unlost keys create`")
    codec_subject: str = Field(
        "", pattern=rf"^({VALUE_PATH})?$",
        description="Path of the person or account that an event is about, as payload.customer_id, who can be erased",
    )  # fmt: skip

    @model_validator(mode="after")
    def _codec_form(self) -> Self:
        if self.codec and not re.fullmatch(r"[\w.]+:\w+", self.codec):
            raise ValueError("--codec (CODEC) is written package.module:Codec")
        if not self.codec and (self.codec_keys or self.codec_subject):
            raise ValueError("--codec-keys (CODEC_KEYS) and --codec-subject (CODEC_SUBJECT) need --codec (CODEC)")
        return self


class PayloadSettings(RedactSettings, CodecSettings):
    """How content is kept, and what of it is shown. What is encrypted is shown only to who may see all of it."""

    def redactor(self) -> Redactor:
        """Make what masks fields; with CODEC, all content."""
        return Redactor((EVERYTHING,)) if self.codec else super().redactor()


class AccessSettings(ServerTlsSettings, RedactSettings):
    """The settings of who may use a server."""

    host: str = Field("127.0.0.1", description="Address to listen on")
    tokens_file: Path | None = Field(
        None,
        description="File of tokens and their rights, made by `unlost token`; none: this machine's users may",
    )
    allow_open: Literal["no", "yes"] = Field("no", description="Whether other machines may use it without TOKENS_FILE")
    allowed_hosts: tuple[str, ...] = Field(
        (), description="Names (or name:port) by which it is called, besides localhost and IP addresses"
    )

    @model_validator(mode="after")
    def _open_on_loopback_alone(self) -> Self:
        if self.tokens_file is None and self.allow_open == "no" and not is_loopback(self.host):
            raise ValueError(
                f"--host (HOST) {self.host} is reached from other machines, and anybody may use it: set --tokens-file "
                "(TOKENS_FILE), which `unlost token create` writes, or --allow-open yes (ALLOW_OPEN) if others must not"
                " identify themselves"
            )
        return self

    def gate(
        self,
        registry: "CollectorRegistry",
        *,
        group: str | None = None,
        origins: tuple[str, ...] = (),
        limits: Limits = NONE,
        senders: WatchedFile[Senders] | None = None,
    ) -> "Gate":
        """The gate of a process. Raises ``UsageProblem`` if the tokens cannot be read."""
        from unlost.ops.kit.access.gate import Gate  # what only shows settings needs no gate

        return Gate(
            registry, tokens=self._tokens(), senders=senders, hosts=Hosts.of(self.own_names(), origins), group=group,
            tls=self.tls(), limits=limits,
        )  # fmt: skip

    def own_names(self) -> tuple[str, ...]:
        """The names by which this server is called."""
        return self.allowed_hosts if is_loopback(self.host) else (*self.allowed_hosts, self.host)

    def _tokens(self) -> TokenFile | None:
        if self.tokens_file is None:
            return None
        tokens = TokenFile(self.tokens_file)
        try:
            tokens.load()
        except WrongTokens as error:
            raise UsageProblem(str(error)) from None
        return tokens


class ClientSettings(Settings):
    """The settings of a command that calls Unlost's servers."""

    unlost_token: Secret = Field(Secret(""), description="Token for Unlost's own servers, if they have TOKENS_FILE")
    unlost_ca: Path | None = Field(None, description="Authority that signed the certificates of Unlost's own servers")
    unlost_cert: Path | None = Field(None, description="Client certificate for Unlost's own servers")
    unlost_key: Path | None = Field(None, description="Its key, if that is not in the same file")

    @model_validator(mode="after")
    def _files_are_good(self) -> Self:
        try:
            self.client()
        except WrongCertificate as error:
            raise ValueError(f"--unlost-ca (UNLOST_CA), --unlost-cert (UNLOST_CERT): {error}") from None
        return self

    def _tls(self) -> ClientTls:
        return ClientTls(self.unlost_ca, self.unlost_cert, self.unlost_key)

    def client(self) -> "ClientOptions":
        """How Unlost's own servers are asked."""
        return ClientOptions(headers=bearer(self.unlost_token), verify=self._tls().context() if self._tls() else True)


class ClientOptions(TypedDict):
    """Arguments for a client of httpx."""

    headers: dict[str, str]
    verify: ssl.SSLContext | bool


def bearer(token: Secret) -> dict[str, str]:
    """The header that carries this token, or none."""
    value = token.reveal()
    return {"authorization": f"Bearer {value}"} if value else {}
