"""Creates the database password once: ``python -m unlost.ops.deploy.container.passwords DIRECTORY``.

It owns two private files: ``password`` for the server, and ``pgpass`` for its clients (libpq's format). An existing
password is kept, never overwritten, so a second start changes nothing.
"""

import os
import secrets
import sys
from pathlib import Path


def provide(directory: Path, user: str = "unlost") -> bool:
    """Create missing files in ``directory``; return whether the password is new."""
    password = directory / "password"
    is_new = not password.exists()
    if is_new:
        _write(password, secrets.token_urlsafe(32))
    _write(directory / "pgpass", f"*:*:*:{user}:{password.read_text()}\n")
    return is_new


def _write(path: Path, text: str) -> None:
    """Write the file atomically: an interrupted write leaves no partial password behind."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def main() -> None:
    """Report what was done, but never print the password."""
    if len(sys.argv) != 2:
        sys.exit("usage: python -m unlost.ops.deploy.container.passwords DIRECTORY")
    directory = Path(sys.argv[1])
    print(f"a new password in {directory}" if provide(directory) else f"the password in {directory} is kept")


if __name__ == "__main__":
    main()
