"""``ops console``."""

from ops.command import UsageProblem, command, run_daemon
from ops.console.daemon import Daemon
from ops.console.settings import ConsoleSettings
from ops.telemetry.http import PortTaken
from ops.telemetry.logs import configure_logs


@command(
    ConsoleSettings,
    examples=[
        "ops console --letters a/failed_events.jsonl,b/failed_events.jsonl",
        "ops console --port 4006 --redact card_number,iban --console-token secret",
    ],
)
def console(settings: ConsoleSettings) -> int:
    """Serve one page that shows the whole system, tells the story of each event, and replays dead letters."""
    configure_logs(settings.log_level, "console")

    try:
        run_daemon(lambda: Daemon(settings))
    except PortTaken as taken:
        raise UsageProblem(str(taken)) from None
    except OSError as error:
        raise UsageProblem(f"cannot listen on --host {settings.host} (HOST): {error}") from None
    return 0
