"""The settings of the sign-in by OpenID Connect."""

import importlib.util
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from unlost.ops.kit.access.hosts import is_loopback
from unlost.ops.kit.access.settings import AccessSettings
from unlost.ops.kit.command import Secret, UsageProblem
from unlost.ops.kit.telemetry.tls import ClientTls, WrongCertificate

if TYPE_CHECKING:
    from unlost.ops.console.signin.flow import SignIn
    from unlost.ops.kit.access.gate import Gate

SIGN_IN = "/signin"
CALLBACK = f"{SIGN_IN}/callback"


class SignInSettings(AccessSettings):
    """The identity provider, and what it knows of this console."""

    oidc_issuer: str = Field(
        "", description="Identity provider (OpenID Connect) at which people sign in: https://login.example"
    )
    oidc_client_id: str = Field("", description="This console's client id at the provider")
    oidc_client_secret: Secret = Field(Secret(""), description="Its secret; none for a public client")
    oidc_redirect_url: str = Field(
        "", description=f"Where the provider sends people back: the console's address and {CALLBACK}"
    )
    oidc_claim: str = Field("groups", min_length=1, description="Claim of the ID token that has a person's groups")
    oidc_scope: str = Field("openid profile email", description="Scopes that are asked for")
    oidc_ca: Path | None = Field(None, description="Authority that signed the provider's certificate")

    @model_validator(mode="after")
    def _the_provider_is_known(self) -> Self:
        if not self.oidc_issuer:
            return self
        if not _is_address(self.oidc_issuer):
            raise ValueError("--oidc-issuer (OIDC_ISSUER) must be an https address, or http on this machine")
        if self.tokens_file is None:
            raise ValueError(
                "--oidc-issuer (OIDC_ISSUER) needs --tokens-file (TOKENS_FILE): `unlost token create --people GROUP` "
                "gives a group of people its rights"
            )
        if not self.oidc_client_id or "openid" not in self.oidc_scope.split():
            raise ValueError(
                "--oidc-issuer (OIDC_ISSUER) needs --oidc-client-id (OIDC_CLIENT_ID), and openid in --oidc-scope"
            )
        return self

    @model_validator(mode="after")
    def _people_come_back_here(self) -> Self:
        if self.oidc_issuer and not (
            _is_address(self.oidc_redirect_url) and urlsplit(self.oidc_redirect_url).path == CALLBACK
        ):
            raise ValueError(
                f"--oidc-redirect-url (OIDC_REDIRECT_URL) is the console's https address, or http on this machine, "
                f"with {CALLBACK} at its end"
            )
        return self

    @model_validator(mode="after")
    def _authority_is_good(self) -> Self:
        try:
            if self.oidc_ca is not None:
                self._verify()
        except WrongCertificate as error:
            raise ValueError(f"--oidc-ca (OIDC_CA): {error}") from None
        return self

    def _verify(self) -> ssl.SSLContext:
        return ClientTls(self.oidc_ca).context()

    def own_names(self) -> tuple[str, ...]:
        """Add the name to which people come back."""
        back = urlsplit(self.oidc_redirect_url).hostname if self.oidc_issuer else None
        return (*super().own_names(), back) if back else super().own_names()

    def sign_in(self, gate: "Gate", clock: Callable[[], float]) -> "SignIn | None":
        """The sign-in of a console; None without a provider. Raises ``UsageProblem`` if its library is missing."""
        if not self.oidc_issuer:
            return None
        if importlib.util.find_spec("joserfc") is None:
            raise UsageProblem('--oidc-issuer (OIDC_ISSUER) needs a library: pip install "unlost[oidc]"')
        from unlost.ops.console.signin.flow import SignIn
        from unlost.ops.console.signin.provider import Client, Provider

        client = Client(
            self.oidc_issuer, self.oidc_client_id, self.oidc_client_secret, self.oidc_redirect_url, self.oidc_scope
        )
        return SignIn(gate, Provider(client, self._verify()), client, self.oidc_claim, clock)


def is_safe(url: str) -> bool:
    """Whether nobody on the way can read or change what is sent there."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        return False
    return (parts.scheme == "https" and bool(host)) or (parts.scheme == "http" and is_loopback(host))


def _is_address(url: str) -> bool:
    """Whether it is such an address, without a password, query or fragment."""
    return is_safe(url) and "@" not in url and "?" not in url and "#" not in url
