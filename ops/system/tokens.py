"""The tokens of a local system: each process has its own, with the rights that it needs, and the user has one.

The user's token stays the same from start to start, unless it was revoked: then a new one is made. Those of the
processes are made anew. Tokens that the user added to the file stay.
"""

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from unlost.ops.kit.access.identity import Right
from unlost.ops.kit.access.table import TokenEntry, digest_of, new_token
from unlost.ops.kit.access.token_file import load_entries, save_entries
from unlost.ops.kit.telemetry.files import private_descriptor

USER = "up"
PROCESSES: dict[str, tuple[Right, ...]] = {
    "up-producer": ("read",),
    "up-listener": ("read", "read:payload"),
    "up-console": ("read", "read:payload", "publish"),
}


@dataclass(frozen=True, slots=True)
class LocalTokens:
    """The file of tokens, and the tokens themselves."""

    file: Path
    header_file: Path
    """A file for ``curl -H @FILE``, so that the token stands in no list of processes."""
    user: str = field(repr=False)
    producer: str = field(repr=False)
    listener: str = field(repr=False)
    console: str = field(repr=False)


def local_tokens(directory: Path, group: str) -> LocalTokens:
    """Make the tokens of a system, or read the user's. Raises ``WrongTokens``."""
    file, header_file = directory / "tokens.jsonl", directory / "authorization"
    entries = load_entries(file) if file.exists() else []
    kept = _kept(header_file)
    is_revoked = file.exists() and not any(one.name == USER and one.sha256 == digest_of(kept) for one in entries)
    user = new_token() if is_revoked or not kept else kept
    made = {name: new_token() for name in PROCESSES}
    others = [one for one in entries if one.name != USER and one.name not in PROCESSES]
    ours = [
        TokenEntry(USER, ("admin",), digest_of(user)),
        # Only an identity that names a group may report what it has read.
        *(TokenEntry(name, PROCESSES[name], digest_of(token), groups=(group,)) for name, token in made.items()),
    ]
    save_entries(file, [*ours, *others])
    with open(private_descriptor(header_file, os.O_WRONLY | os.O_TRUNC), "w") as out:  # noqa: PTH123  a descriptor
        out.write(f"authorization: Bearer {user}\n")
    return LocalTokens(file, header_file, user, made["up-producer"], made["up-listener"], made["up-console"])


def _kept(header_file: Path) -> str:
    with contextlib.suppress(FileNotFoundError):
        return header_file.read_text().rpartition(" ")[2].strip()
    return ""
