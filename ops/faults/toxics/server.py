"""The stand-in as a server: in the running loop, or in a thread with its own loop for callers that block."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from unlost.ops.faults.toxics.http import Proxies
from unlost.ops.faults.toxics.proxy import LOOPBACK
from unlost.ops.kit.telemetry.http import HttpServer

START_SECONDS = 20.0


class ToxicServer:
    """Fault proxies and the HTTP endpoint that controls them."""

    def __init__(self, host: str = LOOPBACK, port: int = 0) -> None:
        self._proxies = Proxies()
        self._http = HttpServer(self._proxies.application, host, port, max_body=1024 * 1024)

    async def start(self) -> int:
        """Listen, and return the port."""
        return await self._http.start()

    async def stop(self) -> None:
        """Cut all connections and stop."""
        await self._proxies.close()
        await self._http.stop()


@contextmanager
def running_in_thread() -> Iterator[int]:
    """Run a stand-in on a free loopback port within the block; yield the port."""
    ready: list[int | BaseException] = []
    is_ready = threading.Event()
    loop = asyncio.new_event_loop()
    ending = asyncio.Event()

    async def serve() -> None:
        server = ToxicServer()
        ready.append(await server.start())
        is_ready.set()
        await ending.wait()
        await server.stop()

    def work() -> None:
        try:
            loop.run_until_complete(serve())
        except BaseException as error:  # noqa: BLE001  raised again in the thread that waits for the start
            ready.append(error)
            is_ready.set()
        finally:
            loop.close()

    thread = threading.Thread(target=work, name="toxics", daemon=True)
    thread.start()
    if not is_ready.wait(START_SECONDS):
        raise TimeoutError("the fault proxy did not start in time")
    if isinstance(ready[0], BaseException):
        raise ready[0]
    try:
        yield ready[0]
    finally:
        loop.call_soon_threadsafe(ending.set)
        thread.join(START_SECONDS)
