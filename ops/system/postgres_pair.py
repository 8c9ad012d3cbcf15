"""A PostgreSQL and its synchronous standby, which can be promoted. For tests and drills.

The primary acknowledges a commit once the standby has it on disk. So whoever promotes the standby loses nothing.
"""

import shutil
import subprocess
import time
from pathlib import Path

from unlost.ops.kit.telemetry.files import PRIVATE_DIRECTORY
from unlost.ops.system.child import POLL, ChildFailed
from unlost.ops.system.ports import LOOPBACK, free_port
from unlost.ops.system.postgres import DATABASE, PostgresServer

STANDBY = "standby"
SYNCHRONOUS = ("-c", f"synchronous_standby_names={STANDBY}", "-c", "wal_keep_size=64MB")
FOLLOWS_WITHIN = 30.0
COPIED_WITHIN = 120.0


class PostgresPair:
    """Both servers, with one login."""

    def __init__(
        self, directory: Path, port: int = 0, *, log: Path | None = None, options: tuple[str, ...] = ()
    ) -> None:
        self._log = log
        self.primary = PostgresServer(
            directory / "postgres", port or free_port(), log=log, options=(*SYNCHRONOUS, *options)
        )
        standby_log = log and log.with_name("standby.log")
        self.standby = PostgresServer(directory / STANDBY, free_port(), log=standby_log, options=options)
        self.promoted = False

    @property
    def url(self) -> str:
        """The value of ``DATABASE_URL``: both servers, of which the one that takes rows is used."""
        login = self.primary.url.rpartition("@")[0]
        hosts = ",".join(f"{LOOPBACK}:{one.port}" for one in (self.primary, self.standby))
        return f"{login}@{hosts}/{DATABASE}?target_session_attrs=read-write"

    @property
    def present(self) -> PostgresServer:
        """The server that takes rows."""
        return self.standby if self.promoted else self.primary

    def start(self) -> None:
        """Start both, and return when commits wait for the standby."""
        self.primary.start()
        if not self.standby.cluster.exists():
            self._copy()
        self.standby.start()
        deadline = time.monotonic() + FOLLOWS_WITHIN
        while self.primary.sql("select sync_state from pg_stat_replication") != "sync":
            if time.monotonic() > deadline:
                raise ChildFailed("postgres", f"the standby did not follow within {FOLLOWS_WITHIN:g} s")
            time.sleep(POLL)

    def promote(self) -> None:
        """Let the standby take rows. The primary must be gone, and must not come back as one."""
        self.standby.sql("select pg_promote()")
        self.promoted = True

    def stop(self) -> None:
        """Stop both: the primary first, which sends the standby all it has."""
        for one in (self.primary, self.standby):
            one.stop()

    def _copy(self) -> None:
        """Make the standby's data directory, which names its primary."""
        home = self.standby.cluster.parent
        home.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        argv = [
            *(str(self.primary.program("pg_basebackup")), "-D", str(self.standby.cluster), "-c", "fast", "-R"),
            *("-d", f"{self.primary.url}?application_name={STANDBY}"),
        ]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=COPIED_WITHIN, check=False)
        if done.returncode:
            raise ChildFailed("pg_basebackup", f"failed: {done.stderr.strip()[-300:]}")
        shutil.copy(self.primary.password_file, self.standby.password_file)
        for path in (home, self.standby.password_file, self.standby.cluster, *self.standby.cluster.rglob("*")):
            self.standby.own(path)
