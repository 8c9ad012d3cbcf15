"""The command ``unlost console``. The console is imported only to run it: help and settings need nothing of it."""

from unlost.ops.console.settings import ConsoleSettings
from unlost.ops.kit.command import UsageProblem, command


@command(
    ConsoleSettings,
    examples=[
        "unlost console --letters a/failed_events.jsonl,b/failed_events.jsonl",
        "unlost console --port 4006 --redact card_number,iban --tokens-file tokens.jsonl",
    ],
    daemon=True,
)
def console(settings: ConsoleSettings) -> int:
    """Serve one page that shows the whole system and the story of each event, and replays dead letters."""
    from unlost.ops.console.daemon import ConsoleDaemon
    from unlost.ops.kit.command.daemon import run_daemon
    from unlost.ops.kit.telemetry.http import PortTaken
    from unlost.ops.kit.telemetry.logs import configure_logs

    configure_logs(settings.log_level, "console")

    try:
        run_daemon(lambda: ConsoleDaemon(settings))
    except PortTaken as taken:
        raise UsageProblem(str(taken)) from None
    except OSError as error:
        raise UsageProblem(f"cannot listen on --host {settings.host} (HOST): {error}") from None
    return 0
