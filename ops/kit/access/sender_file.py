"""Reads the file of senders and their secrets. It is private: whoever reads it can publish in their names."""

import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from unlost.ops.kit.access.watched_file import Unusable, WatchedFile
from unlost.ops.kit.access.webhook import WrongSecrets, secrets_of

MOST_BYTES = 64 * 1024
Senders = Mapping[str, Sequence[bytes]]
"""The secrets of each sender."""


def sender_file(path: Path) -> WatchedFile[Senders]:
    """The file, as a server reads it."""
    return WatchedFile(path, _senders, {})


def _senders(path: Path) -> Senders:
    """Raises ``Unusable`` with a sentence that names the file."""
    try:
        with path.open("rb") as file:
            if stat.S_IMODE(os.fstat(file.fileno()).st_mode) & (stat.S_IROTH | stat.S_IWOTH):
                raise Unusable(f"SENDERS_FILE {path}: all users may read or write it; remove these rights: chmod o-rw")
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise Unusable(f"SENDERS_FILE {path}: it has more than {MOST_BYTES:,} bytes")
        return secrets_of(content.decode("ascii"))
    except OSError as error:
        raise Unusable(f"SENDERS_FILE {path}: it cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Unusable(f"SENDERS_FILE {path}: it is not ASCII text") from None
    except WrongSecrets as error:
        raise Unusable(f"SENDERS_FILE {path}: {error}") from None
