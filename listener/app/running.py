"""Runs a listener until it ends, and turns the errors that end it into exit codes and sentences."""

import structlog

from unlost.dlq.record.file import FileError
from unlost.listener.app.daemon import ListenerDaemon
from unlost.listener.app.settings import ListenerSettings
from unlost.listener.core.errors import Misconfigured, Permanent, Transient, Unaccounted
from unlost.ops.kit.command import UsageProblem
from unlost.ops.kit.command.daemon import run_daemon
from unlost.ops.kit.telemetry.http import PortTaken
from unlost.ops.kit.telemetry.logs import configure_logs


def run_listener(settings: ListenerSettings) -> int:
    """Return the exit code. Raises ``UsageProblem``."""
    configure_logs(settings.log_level, settings.instance_id)

    try:
        run_daemon(lambda: ListenerDaemon(settings))
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
