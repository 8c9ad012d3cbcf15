"""Keeps the secrets of processes in files.

Processes that a handler starts would inherit them from the environment, and crash reports would show them.
"""

import os
import shutil
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

from unlost.ops.kit.telemetry.files import private_descriptor, private_directory

SECRETS = ("DATABASE_URL", "REPLAY_DATABASE_URL", "REDIS_URL", "JOURNAL", "UNLOST_TOKEN", "WS_AUTHORIZATION")
DIRECTORY = "secrets"


def with_secrets_in_files(environment: Mapping[str, str], settings: Mapping[str, str], data: Path) -> dict[str, str]:
    """Return an environment with these settings. Secrets among them are written to files, which it names."""
    made = {**environment, **settings}
    for name in SECRETS:
        if name not in settings:
            continue
        made.pop(f"{name}_FILE", None)
        if settings[name] and (name != "JOURNAL" or "://" in settings[name]):
            del made[name]
            made[f"{name}_FILE"] = str(_file_with(settings[name], data / DIRECTORY))
    return made


def forget_secrets(data: Path) -> None:
    """Remove the files of an earlier start."""
    shutil.rmtree(data / DIRECTORY, ignore_errors=True)


def _file_with(secret: str, directory: Path) -> Path:
    """Write a secret to a file that is named by its content, so that processes with other secrets use other files."""
    private_directory(directory)
    path = directory / blake2b(secret.encode(), digest_size=16).hexdigest()
    with open(private_descriptor(path, os.O_WRONLY | os.O_TRUNC), "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(secret)
    return path
