"""Each event as a webhook, delivered after its row: ``HANDLER=unlost.webhook:app``.

It is an effect: recorded in the transaction of the row, signed, and delivered until the receiver takes it. The host of
``WEBHOOK_URL`` must be in ``EFFECT_HOSTS``.
"""

from collections.abc import AsyncIterator
from typing import Any, Literal

from pydantic import Field

from unlost.listener.app.embedding import App
from unlost.listener.core.delivery import Delivery
from unlost.listener.core.effects import EffectRefused, origin_of
from unlost.listener.core.errors import Misconfigured
from unlost.listener.routing.transaction import Transaction
from unlost.listener.shipped.envelope import text_of
from unlost.ops.kit.command import SecretUrl, Settings, UsageProblem

JSON = {"content-type": "application/json"}
app = App()


class WebhookSettings(Settings):
    """Where webhooks go."""

    webhook_url: SecretUrl = Field(SecretUrl("https://"), description="Address that gets each event")
    webhook_in_order: Literal["yes", "no"] = Field("no", description="Whether events are delivered in their order")


@app.lifespan
async def resources() -> AsyncIterator[dict[str, Any]]:
    """Read the settings."""
    try:
        settings = WebhookSettings.load({})
        origin_of(settings.webhook_url.reveal())
    except UsageProblem as error:
        raise Misconfigured(*error.problems) from error
    except EffectRefused as error:
        raise Misconfigured(f"WEBHOOK_URL must be set, as https://host/path: {error}") from None
    yield {"settings": settings}


@app.otherwise
async def send(event: Delivery, tx: Transaction, settings: WebhookSettings) -> None:
    """Record the webhook of one event."""
    del tx  # that it is asked for puts this into the row's transaction
    in_order = settings.webhook_in_order == "yes"
    event.effects.post(settings.webhook_url.reveal(), body=text_of(event), headers=JSON, in_order=in_order)
