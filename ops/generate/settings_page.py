"""The settings of every command as a page: ``python -m unlost.ops.generate.settings_page`` prints it."""

from typing import Any

from unlost.listener.app.settings import ListenerSettings
from unlost.ops.console.settings import ConsoleSettings
from unlost.ops.kit.command import Secret, Settings
from unlost.ops.system.up import UpSettings
from unlost.producer.app.settings import ProducerSettings

COMMANDS: tuple[tuple[str, type[Settings]], ...] = (
    ("unlost listener", ListenerSettings),
    ("unlost producer", ProducerSettings),
    ("unlost up", UpSettings),
    ("unlost console", ConsoleSettings),
)


HEAD = """# Settings

Flags come first, then the environment, then `.env`. `--show-settings` prints the effective settings, secrets masked.
All errors are reported together; exit code 2. `unlost audit`, `unlost event`, `unlost migrate`, `unlost retention` and
`dlq` take the same names, and their `--help` lists them.

<!-- made by `make reference` -->
"""


def page() -> str:
    """One table a command."""
    return "\n".join([HEAD, *(f"## `{name}`\n\n{_table(settings)}" for name, settings in COMMANDS)])


def _table(settings: type[Settings]) -> str:
    rows = ["| environment | flag | default | meaning |", "|---|---|---|---|"]
    for name, info in settings.model_fields.items():
        default = _default(name, info.get_default(call_default_factory=True))
        rows.append(f"| `{name.upper()}` | `--{name.replace('_', '-')}` | {default} | {info.description} |")
    return "\n".join(rows) + "\n"


def _default(name: str, value: Any) -> str:
    if isinstance(value, Secret):
        value = value.reveal()  # a default is no secret: everybody can read it in the code
    if name == "instance_id" and value != "producer":
        return "the host's name"
    if value in ("", None, ()) or str(value) == "":
        return ""
    return f"`{','.join(map(str, value)) if isinstance(value, tuple) else value}`"


if __name__ == "__main__":
    print(page(), end="")
