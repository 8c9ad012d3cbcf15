"""The kit that every command is built from: settings, secrets, flags, help, exit codes."""

from unlost.ops.kit.command.daemon import run_daemon, run_through
from unlost.ops.kit.command.kit import command, lazy_group, main_group
from unlost.ops.kit.command.say import say, say_json_text
from unlost.ops.kit.command.secret import PathOrUrl, Secret, SecretUrl, SecretUrls, WebAddress
from unlost.ops.kit.command.settings import Settings, UsageProblem, secret_names

__all__ = [
    "PathOrUrl",
    "Secret",
    "SecretUrl",
    "SecretUrls",
    "Settings",
    "UsageProblem",
    "WebAddress",
    "command",
    "lazy_group",
    "main_group",
    "run_daemon",
    "run_through",
    "say",
    "say_json_text",
    "secret_names",
]
