"""Settings of notifications. They go to allowed hosts of effects alone, signed with these hosts' secrets."""

from typing import Self

from pydantic import Field, model_validator

from unlost.listener.app.effect_settings import EffectSettings
from unlost.listener.core.effects import EffectRefused
from unlost.listener.effects.templates import Receiver, receivers_of
from unlost.ops.kit.command import Secret


class NotifySettings(EffectSettings):
    """The receivers of notifications."""

    notify: Secret = Field(
        Secret(""),
        description="Receivers of notifications, with spaces between them: webhook=URL, slack=URL, pagerduty=KEY; "
        "their hosts must be in EFFECT_HOSTS",
    )

    @model_validator(mode="after")
    def _receivers_may_be_called(self) -> Self:
        try:
            for one in self.receivers():
                self.effect_targets().check(one.url)
        except (ValueError, EffectRefused) as error:
            raise ValueError(f"--notify (NOTIFY): {error}") from None
        return self

    def receivers(self) -> tuple[Receiver, ...]:
        """The receivers of notifications."""
        return receivers_of(self.notify.reveal())
