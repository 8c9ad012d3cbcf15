"""Reads the file of tokens, and writes it as a whole.

If the file cannot be read, the earlier tokens stay valid: a typing error must not lock out a running system. A log
line, a metric and a remark in health report it. To revoke all tokens, empty the file.
"""

import contextlib
import os
import stat
from pathlib import Path

from unlost.ops.kit.access.table import MOST_BYTES, TokenEntry, TokenTable, WrongTokens, read_entries, table_of, written
from unlost.ops.kit.access.watched_file import WatchedFile
from unlost.ops.kit.telemetry.files import private_descriptor, private_directory


class TokenFile(WatchedFile[TokenTable]):
    """A file of tokens, as a server reads it."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, load_table, TokenTable())

    @property
    def table(self) -> TokenTable:
        """The tokens."""
        return self.content


def load_table(path: Path) -> TokenTable:
    """Read the tokens. Raises ``WrongTokens`` with a sentence that names the file."""
    try:
        return table_of(load_entries(path))
    except WrongTokens as error:
        raise WrongTokens(f"TOKENS_FILE {path}: {error}") from None


def load_entries(path: Path) -> list[TokenEntry]:
    """Read the lines. Raises ``WrongTokens``."""
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & stat.S_IWOTH:
                raise WrongTokens("others may write to it; remove that right: chmod o-w")
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise WrongTokens(f"it cannot be read: {error.strerror}") from None
    if len(content) > MOST_BYTES:
        raise WrongTokens(f"it has more than {MOST_BYTES:,} bytes")
    return read_entries(content)


def save_entries(path: Path, entries: list[TokenEntry]) -> None:
    """Replace the file in one step, so that no server reads half of it. Its mode stays; a new one is private."""
    private_directory(path.parent)
    target = path.resolve()  # a link stays a link
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        descriptor = private_descriptor(fresh, os.O_WRONLY | os.O_TRUNC)
        with open(descriptor, "wb") as file:  # noqa: PTH123  a descriptor
            with contextlib.suppress(FileNotFoundError):
                before = target.stat()
                os.fchmod(descriptor, stat.S_IMODE(before.st_mode))
                with contextlib.suppress(PermissionError):
                    os.fchown(descriptor, before.st_uid, before.st_gid)
            file.write(written(entries))
            file.flush()
            os.fsync(descriptor)
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)
