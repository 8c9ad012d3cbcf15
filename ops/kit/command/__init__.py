"""The kit that every command is built from: settings, secrets, flags, help, exit codes."""

from unlost.ops.kit.command.kit import command
from unlost.ops.kit.command.say import say, say_json_text
from unlost.ops.kit.command.secret import PathOrUrl, Secret, SecretUrl, SecretUrls, WebAddress
from unlost.ops.kit.command.settings import Settings, UsageProblem, secret_names
from unlost.ops.kit.groups import main_group

__all__ = [
    "PathOrUrl",
    "Secret",
    "SecretUrl",
    "SecretUrls",
    "Settings",
    "UsageProblem",
    "WebAddress",
    "command",
    "main_group",
    "say",
    "say_json_text",
    "secret_names",
]
