"""The console as a process: start, health, stop. Its replays end with it."""

import asyncio

import structlog
from starlette.types import ASGIApp

from unlost.ops.console.app import Surface
from unlost.ops.console.drills import Drills
from unlost.ops.console.query import ConsoleQueries
from unlost.ops.console.redact import Redactor
from unlost.ops.console.replays import Replays
from unlost.ops.console.settings import LOOPBACK, ConsoleSettings
from unlost.ops.console.shelf import Shelf
from unlost.ops.kit.telemetry.health import Check, Health
from unlost.ops.kit.telemetry.http import HttpServer
from unlost.ops.kit.telemetry.metrics import LoopLag, metrics_route, new_registry
from unlost.ops.watch.query import Watch

WATCH_SECONDS = 5.0


class Daemon:
    """One console. ``run`` returns after ``stop``."""

    def __init__(self, settings: ConsoleSettings) -> None:
        self._settings = settings
        self._database = settings.database()
        self._quick_database = settings.quick_database()
        self._watch = Watch(settings.targets(), self._quick_database)
        redactor = Redactor(settings.redact)
        shelf = Shelf(settings.letters, redactor)
        self._queries = ConsoleQueries(settings, self._database, shelf, redactor)
        self._replays = Replays(settings.replay_environment(), redactor)
        registry = new_registry()
        self._lag = LoopLag(registry)
        surface = Surface(
            settings,
            watch=self._watch,
            queries=self._queries,
            shelf=shelf,
            replays=self._replays,
            drills=Drills(registry),
            health=self.health,
            metrics=metrics_route(registry),
        )
        self.application: ASGIApp = surface.application
        self._http = HttpServer(self.application, settings.host, settings.port)
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Begin to stop."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until ``stop`` is called."""
        log = structlog.get_logger()
        port = await self._http.start()
        log.info("listening", address=f"http://{self._settings.host}:{port}/")
        if self._settings.host not in LOOPBACK and not self._settings.console_token.reveal():
            log.warning("console_open", why="anybody who reaches it may replay and archive; set CONSOLE_TOKEN")
        side = [
            asyncio.create_task(self._lag.run(), name="loop lag"),
            asyncio.create_task(self._keep_watch(), name="watch"),
        ]
        try:
            await self._stop.wait()
        finally:
            for task in side:
                task.cancel()
            await asyncio.wait(side)
            await self._replays.close()
            await self._http.stop()
            await self._queries.close()
            await self._watch.close()
            await self._quick_database.close()
            await self._database.close()

    async def _keep_watch(self) -> None:
        """Look at the system now and then, even if no page does: a later visitor sees since when a problem lasts."""
        while True:
            await self._watch.look()
            await asyncio.sleep(WATCH_SECONDS)

    def health(self) -> Health:
        """The console is ready as long as it runs: if other parts are away, it can still show that."""
        stopping = self._stop.is_set()
        return Health("console", (), (Check("running", not stopping, "the console is stopping"),))
