"""Socket.IO and graphql-transport-ws as npm serves them, in a process of node."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support import npm
from tests.support.needed import needed

SERVER = Path(__file__).parent / "node"
CHANGED_WITHIN = 20


def installed(directory: Path) -> Path:
    """Install the packages of the lock file into this directory; return the server's file."""
    return npm.installed(SERVER, directory) / "server.js"


class NodeFeeds:
    """Both servers. They keep their port when they are started again, and go on with the next number."""

    def __init__(self, server: Path) -> None:
        self._node = needed("node", package="nodejs")
        self._server = server
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None
        self._changed = asyncio.Condition()
        self.state: dict[str, Any] = {"port": 0, "published": 0}

    async def start(self) -> None:
        arguments = [str(self._server), str(self.state["port"]), str(self.state["published"])]
        self._process = await asyncio.create_subprocess_exec(
            self._node, *arguments, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        self.state = {"published": self.state["published"]}
        self._listening = asyncio.create_task(self._listen(self._process))
        await self.until(lambda state: "port" in state)

    async def kill(self) -> None:
        assert self._process is not None
        assert self._listening is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._listening

    async def publish(self, count: int) -> None:
        wanted = self.state["published"] + count
        self._write(f"publish {count}")
        await self.until(lambda state: state["published"] >= wanted)

    async def end(self, feed: str, *, subscribed: int = 2) -> None:
        """Publish, let the server end its oldest subscription meanwhile, and wait until all are there again."""
        wanted = self.state[feed]["connections"] + 1
        publishing = asyncio.create_task(self.publish(40))
        await asyncio.sleep(0)  # the command to publish is the first
        self._write(f"end {feed}")
        await publishing
        await self.until(lambda state: state[feed]["connections"] >= wanted and state[feed]["subscribed"] == subscribed)

    async def until(self, holds: Callable[[dict[str, Any]], bool]) -> None:
        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait_for(lambda: holds(self.state)), CHANGED_WITHIN)
            except TimeoutError:
                raise AssertionError(f"the servers' last report: {self.state}") from None

    def _write(self, line: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            async with self._changed:
                self.state = json.loads(line)
                self._changed.notify_all()
