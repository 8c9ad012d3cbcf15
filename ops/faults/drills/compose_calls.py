"""Calls ``docker compose`` for the project in this directory. A call that fails or hangs raises ``StageError``.

Several threads may use it at once, each with its own event loop.
"""

import asyncio
import contextlib
import shlex
from collections.abc import Sequence

from unlost.ops.faults.drills.stage import StageError

CALL_SECONDS = 120.0
SHOWN = 300


class Compose:
    """Runs the compose command with arguments and returns its output."""

    def __init__(self, command: str, *, seconds: float = CALL_SECONDS) -> None:
        self.command = command
        self._seconds = seconds
        self._words = shlex.split(command)

    async def call(self, *arguments: str) -> str:
        """Run it and return what it printed."""
        code, output = await self.run(*arguments)
        if code:
            raise StageError(f"{shlex.join([*self._words, *arguments])[:200]} ended with {code}: {output[-SHOWN:]}")
        return output

    async def inside(self, service: str, *arguments: str) -> str:
        """Run a program in a service's container and return what it printed."""
        return await self.call("exec", "-T", service, *arguments)

    async def files(self, service: str, names: Sequence[str]) -> list[str]:
        """Read files in a container's working directory; missing files are empty texts."""
        script = 'for name in "$@"; do if [ -e "$name" ]; then cat -- "$name"; fi; printf "\\036"; done'
        output = await self.inside(service, "sh", "-c", script, "sh", *names)
        return output.split("\x1e")[: len(names)]

    async def run(self, *arguments: str) -> tuple[int, str]:
        """Return the exit code and the output; if it failed, its error output."""
        try:
            process = await asyncio.create_subprocess_exec(
                *self._words, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )  # fmt: skip
        except OSError as error:
            raise StageError(f"{self.command} cannot be run: {error}; give --compose-command") from error
        try:
            async with asyncio.timeout(self._seconds):
                out, err = await process.communicate()
        except TimeoutError as error:
            raise StageError(
                f"{shlex.join([*self._words, *arguments])[:200]} did not end within {self._seconds:g} s"
            ) from error
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()  # in this loop, which may end next
        code = process.returncode or 0
        return code, ((err or out) if code else out).decode(errors="replace").strip("\n")
