"""The command ``unlost listener``. The listener is imported only to run it: help and settings need nothing of it."""

from pathlib import Path

from unlost.listener.app.settings import ListenerSettings
from unlost.ops.kit.command import command


@command(
    ListenerSettings,
    name="listener",
    examples=(
        "unlost listener --instance-id a --port 3000",
        "HANDLER=shop.orders:handle unlost listener --ws-url wss://events.example/stream",
        "HANDLER=shop:app unlost listener --reload",
        "unlost listener --show-settings",
    ),
    daemon=True,
)
def main(settings: ListenerSettings) -> int:
    """Claim, handle and store each event of a WebSocket source exactly once."""
    if settings.reload:
        from unlost.ops.kit.command.reloading import run_reloading

        return run_reloading(Path.cwd(), settings.shutdown_timeout)
    from unlost.listener.app.running import run_listener

    return run_listener(settings)
