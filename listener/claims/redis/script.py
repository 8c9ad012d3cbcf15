"""Lua scripts, their names on a server, and how they are sent, with one retry where that may help."""

import hashlib
from collections.abc import Callable, Sequence
from importlib import resources
from typing import TypeVar

from redis.exceptions import NoScriptError

from unlost.listener.claims.redis.calls import RedisCalls
from unlost.listener.claims.redis.errors import LIBRARY_ERRORS, may_try_again, translated
from unlost.listener.claims.redis.servers import RedisServers

T = TypeVar("T")


class Script:
    """A script, and its name (SHA-1) on the server."""

    def __init__(self, *files: str) -> None:
        room = resources.files("unlost.listener.claims.redis").joinpath("scripts")
        self.text = "\n".join(room.joinpath(file).read_text(encoding="utf-8") for file in files)
        self.sha = hashlib.sha1(self.text.encode(), usedforsecurity=False).hexdigest()
        self.by_name = ("EVALSHA", self.sha)
        self.by_text = ("EVAL", self.text)


class Sender:
    """Sends commands. After a failure, ``servers`` finds out again which server keeps what."""

    def __init__(self, servers: RedisServers) -> None:
        self._servers = servers

    async def command(
        self, calls: RedisCalls, command: Sequence[bytes | str | int], doing: str, read: Callable[[object], T]
    ) -> T:
        """Run a command that may be repeated."""
        return await self._run(calls, (), (), command, doing, read)

    async def script(
        self, calls: RedisCalls, script: Script, call: Sequence[bytes | int], doing: str, read: Callable[[object], T]
    ) -> T:
        """Run a script."""
        return await self._run(calls, script.by_name, script.by_text, call, doing, read)

    async def _run(
        self,
        calls: RedisCalls,
        first: tuple[str, ...],
        again: tuple[str, ...],
        call: Sequence[bytes | str | int],
        doing: str,
        read: Callable[[object], T],
    ) -> T:
        """Run one command, and once more if that may help. Then a script is sent as text, not by its name."""
        try:
            return await calls.ask(read, *first, *call)
        except LIBRARY_ERRORS as error:
            if not isinstance(error, NoScriptError) and not may_try_again(error):
                self._servers.doubt()
                raise translated(error, doing) from error
        try:
            return await calls.ask(read, *again, *call)
        except LIBRARY_ERRORS as error:
            self._servers.doubt()
            raise translated(error, doing) from error
