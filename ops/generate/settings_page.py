"""The settings of every command as Markdown tables, for the README: ``python -m unlost.ops.generate.settings_page``."""

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


def tables() -> str:
    """One table a command."""
    return "\n".join(f"### `{name}`\n\n{_table(settings)}" for name, settings in COMMANDS)


def _table(settings: type[Settings]) -> str:
    rows = ["| environment | flag | default | meaning |", "|---|---|---|---|"]
    for name, info in settings.model_fields.items():
        default = _default(name, info.get_default(call_default_factory=True))
        rows.append(f"| `{name.upper()}` | `--{name.replace('_', '-')}` | {default} | {info.description} |")
    return "\n".join(rows) + "\n"


def _default(name: str, value: Any) -> str:
    if isinstance(value, Secret):
        value = value.reveal()  # a default stands in the code, for all to read
    if name == "instance_id" and value != "producer":
        return "the host's name"
    if value in ("", None, ()) or str(value) == "":
        return ""
    return f"`{','.join(map(str, value)) if isinstance(value, tuple) else value}`"


if __name__ == "__main__":
    print(tables(), end="")
