"""The command ``unlost listener``."""

from pathlib import Path

import structlog

from unlost.dlq.record.file import FileError
from unlost.listener.app.daemon import Daemon
from unlost.listener.app.settings import ListenerSettings
from unlost.listener.core.errors import Misconfigured, Permanent, Transient, Unaccounted
from unlost.ops.kit.command import UsageProblem, command, run_daemon
from unlost.ops.kit.command.reloading import run_reloading
from unlost.ops.kit.telemetry.http import PortTaken
from unlost.ops.kit.telemetry.logs import configure_logs


@command(
    ListenerSettings,
    name="listener",
    examples=(
        "unlost listener --instance-id a --port 3000",
        "HANDLER=shop.orders:handle unlost listener --ws-url wss://events.example/stream",
        "HANDLER=shop:app unlost listener --reload",
        "unlost listener --show-settings",
    ),
)
def main(settings: ListenerSettings) -> int:
    """Claim, handle and store each event of a WebSocket source exactly once."""
    if settings.reload:
        return run_reloading(Path.cwd(), settings.shutdown_timeout)
    configure_logs(settings.log_level, settings.instance_id)

    try:
        run_daemon(lambda: Daemon(settings))
    except Misconfigured as error:
        raise UsageProblem(*error.mistakes) from None
    except PortTaken as error:
        raise UsageProblem(str(error)) from None
    except (Permanent, FileError) as error:
        raise UsageProblem(str(error)) from None
    except Unaccounted as error:
        structlog.get_logger().error("stopped_incomplete", why=str(error))
        return 1
    except Transient as error:
        structlog.get_logger().error("startup_failed", why=str(error))
        return 1
    return 0
