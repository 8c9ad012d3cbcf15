"""The kit of which every command is made: settings, secrets, flags, help, exit codes."""

from ops.command.daemon import run_daemon, run_through
from ops.command.kit import command, main_group
from ops.command.say import say, say_json_text
from ops.command.secret import Secret, SecretUrl, WebAddress
from ops.command.settings import Settings, UsageProblem, secret_names

__all__ = [
    "Secret",
    "SecretUrl",
    "Settings",
    "UsageProblem",
    "WebAddress",
    "command",
    "main_group",
    "run_daemon",
    "run_through",
    "say",
    "say_json_text",
    "secret_names",
]
