"""Settings of effects: where they may go, what proves who sends them, and how often they are tried."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from unlost.listener.core.attempts import Backoff
from unlost.listener.core.targets import Targets
from unlost.listener.effects.hosts import by_host, secrets_of
from unlost.listener.effects.http import HttpOptions
from unlost.listener.pipeline.effect_delivery import EffectPolicy
from unlost.ops.kit.command import Secret, Settings, WebAddress
from unlost.ops.kit.telemetry.tls import ClientTls, WrongCertificate


class EffectSettings(Settings):
    """How effects are delivered."""

    effect_hosts: str = Field(
        "",
        description="Hosts that effects may be sent to, with spaces between them: name, name:port, *.name, "
        "http://name for one without TLS; none: handlers may record no effects for them",
    )
    effect_networks: str = Field(
        "", description="Private networks in which these hosts may have addresses, such as 10.0.0.0/8"
    )
    effect_secrets: Secret = Field(
        Secret(""), description="Secrets that sign effects, as host=whsec_BASE64, with spaces between them"
    )
    effect_tokens: Secret = Field(
        Secret(""), description="Bearer tokens that effects carry, as host=TOKEN, with spaces between them"
    )
    effect_producer: WebAddress | None = Field(None, description="Address of the producer that effects publish to")
    effect_ca: Path | None = Field(None, description="Authority that signed the certificates of these hosts")
    effect_attempts: int = Field(12, ge=1, le=100, description="Attempts to deliver an effect, then it is a letter")
    effect_first: float = Field(5.0, gt=0, le=86_400, description="Seconds until the second attempt")
    effect_max: float = Field(14_400.0, gt=0, le=86_400, description="Longest pause between attempts; pauses double")
    effect_timeout: float = Field(10.0, gt=0, le=300, description="Seconds that one delivery may take")
    effect_concurrency: int = Field(16, ge=1, le=200, description="Deliveries to one host at once, in one listener")

    @model_validator(mode="after")
    def _targets_can_be_read(self) -> Self:
        for flag, read in (
            ("--effect-hosts (EFFECT_HOSTS)", lambda: Targets.of(self.effect_hosts)),
            ("--effect-networks (EFFECT_NETWORKS)", lambda: Targets.of("", self.effect_networks)),
            ("--effect-secrets (EFFECT_SECRETS)", lambda: secrets_of(self.effect_secrets.reveal())),
            ("--effect-tokens (EFFECT_TOKENS)", lambda: by_host(self.effect_tokens.reveal())),
            ("--effect-ca (EFFECT_CA)", lambda: self.effect_ca and ClientTls(self.effect_ca).context()),
        ):
            try:
                read()
            except (ValueError, WrongCertificate) as error:
                raise ValueError(f"{flag}: {error}") from None
        if self.effect_max < self.effect_first:
            raise ValueError("--effect-max (EFFECT_MAX) must not be below --effect-first (EFFECT_FIRST)")
        return self

    def effect_targets(self) -> Targets:
        """Where effects may go."""
        return Targets.of(self.effect_hosts, self.effect_networks)

    def effect_policy(self) -> EffectPolicy:
        """How often, how long and how many at once."""
        retry = Backoff(attempts=self.effect_attempts, first=self.effect_first, longest=self.effect_max)
        return EffectPolicy(retry, self.effect_timeout, self.effect_concurrency)

    def effect_options(self) -> HttpOptions:
        """The settings of the HTTP channel."""
        return HttpOptions(
            self.effect_targets(),
            self.effect_timeout,
            secrets_of(self.effect_secrets.reveal()),
            by_host(self.effect_tokens.reveal()),
            self.effect_producer or "",
            ClientTls(self.effect_ca),
        )
