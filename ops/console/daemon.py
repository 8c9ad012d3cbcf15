"""The console as a process: start, health, stop. Its replays end with it."""

import asyncio
import time

import structlog
from starlette.types import ASGIApp

from unlost.listener.core.codec_loading import codec_of
from unlost.ops.console.app import Surface
from unlost.ops.console.audits import Audits
from unlost.ops.console.drills import Drills
from unlost.ops.console.flow_routes import FlowRoutes
from unlost.ops.console.letter_routes import LetterRoutes
from unlost.ops.console.letters import ConsoleLetters
from unlost.ops.console.pause_routes import PauseRoutes
from unlost.ops.console.query import ConsoleQueries
from unlost.ops.console.replays import Replays
from unlost.ops.console.settings import ConsoleSettings
from unlost.ops.console.shelf import ConsoleFiles
from unlost.ops.console.signin.routes import sign_in_routes
from unlost.ops.console.trail import ConsoleTrail
from unlost.ops.kit.access.tls_settings import unverified
from unlost.ops.kit.telemetry.health import Check, Health
from unlost.ops.kit.telemetry.http import HttpServer
from unlost.ops.kit.telemetry.metrics import LoopLag, metrics_route, new_registry
from unlost.ops.watch.query import Watch

WATCH_SECONDS = 5.0


class ConsoleDaemon:
    """One console. ``run`` returns after ``stop``."""

    def __init__(self, settings: ConsoleSettings) -> None:
        self._settings = settings
        self._database = settings.database()
        self._quick_database = settings.quick_database()
        self._watch = Watch(settings.targets(), self._quick_database, settings.client())
        redactor, codec = settings.redactor(), codec_of(settings)
        shelf = ConsoleFiles(settings.letters, redactor, codec)
        letters = ConsoleLetters(self._database, shelf, redactor, codec)
        self._queries = ConsoleQueries(settings, self._database, letters, redactor)
        self._replays = Replays(settings.replay_environment(), redactor)
        registry = new_registry()
        self._gate = settings.gate(registry, group=settings.group)
        self._sign_in = settings.sign_in(self._gate, time.monotonic)
        self._lag = LoopLag(registry)
        self._audits = Audits(registry, since=time.time())
        trail = ConsoleTrail(self._database, shelf.files)
        surface = Surface(
            settings,
            watch=self._watch,
            queries=self._queries,
            trail=trail,
            drills=Drills(registry),
            health=self.health,
            metrics=metrics_route(registry),
            gate=self._gate,
            more=[
                *LetterRoutes(letters, redactor, self._replays, trail, self._watch).routes,
                *PauseRoutes(self._database, trail).routes,
                *FlowRoutes(self._database, self._queries, redactor).routes,
                *sign_in_routes(self._sign_in),
            ],
        )
        self.application: ASGIApp = surface.application
        self._http = HttpServer(self.application, settings.host, settings.port, tls=self._gate.handshakes)
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Begin to stop."""
        self._stop.set()

    async def run(self) -> None:
        """Serve until ``stop`` is called."""
        log = structlog.get_logger()
        port = await self._http.start()
        log.info("listening", address=f"http{'s' if self._gate.tls else ''}://{self._settings.host}:{port}/")
        if why := unverified(self._settings.database_url.reveal()):
            log.warning("database_unverified", why=why)
        try:
            async with asyncio.TaskGroup() as tasks:  # one that fails ends the console, which says why
                side = [
                    tasks.create_task(self._lag.run(), name="loop lag"),
                    tasks.create_task(self._keep_watch(), name="watch"),
                    tasks.create_task(self._gate.watch(), name="tokens"),
                ]
                await self._stop.wait()
                for task in side:
                    task.cancel()
        finally:
            await self._replays.close()
            await self._http.stop()
            if self._sign_in is not None:
                await self._sign_in.close()
            await self._queries.close()
            await self._watch.close()
            await self._quick_database.close()
            await self._database.close()

    async def _keep_watch(self) -> None:
        """Look at the system regularly, even without a page, so that it is known since when a problem lasts."""
        while True:
            try:
                picture, _ = await self._watch.look()
                self._audits.note(picture.database.audit if picture.database else None)
            except Exception:  # noqa: BLE001  what others answer ends no console
                structlog.get_logger().exception("watch_failed")
            await asyncio.sleep(WATCH_SECONDS)

    def health(self) -> Health:
        """The console is ready as long as it runs: if other parts are away, it can still show that."""
        stopping = self._stop.is_set()
        return Health(
            "console", (), (Check("running", not stopping, "the console is stopping"),), remarks=self._gate.remarks()
        )
