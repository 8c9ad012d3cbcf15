"""A PostgreSQL and its synchronous standby, which can be promoted. For ``unlost up --ha``, tests and drills.

The primary acknowledges a commit once the standby has it on disk. So whoever promotes the standby loses nothing. The
file ``leader`` says which of the two leads since the last promotion. The other's cluster is made anew then, before it
follows: it may hold commits that nobody acknowledged.
"""

import shutil
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

from unlost.ops.kit.telemetry.files import PRIVATE_DIRECTORY
from unlost.ops.system.child import POLL, ChildFailed
from unlost.ops.system.installed import Origin
from unlost.ops.system.ports import free_port
from unlost.ops.system.postgres import PostgresServer
from unlost.ops.system.postgres_topologies import url_of
from unlost.ops.system.valkey import write_private

PRIMARY, STANDBY = "postgres", "standby"
"""The directories of the two servers, by the roles in which they begin."""
FOLLOWER = "standby"
"""The name under which a standby asks its primary for commits."""
KEPT = ("-c", "wal_keep_size=64MB")
FOLLOWS_WITHIN = 30.0
COPIED_WITHIN = 600.0


class PostgresPair:
    """Both servers, with one login."""

    def __init__(
        self, directory: Path, port: int = 0, *, log: Path | None = None, options: tuple[str, ...] = (),
        origin: Origin = "wheel",
    ) -> None:  # fmt: skip
        self._leader = directory / "leader"
        first, second = self._servers = tuple(
            PostgresServer(directory / name, at or free_port(), log=to, options=(*KEPT, *options), origin=origin)
            for name, at, to in ((PRIMARY, port, log), (STANDBY, 0, log and log.with_name("standby.log")))
        )
        second_leads = self._leader.exists() and self._leader.read_text() == STANDBY
        self.primary, self.standby = (second, first) if second_leads else (first, second)
        self.is_followed = False
        """Whether each commit that the primary acknowledges is on the standby's disk too."""

    @property
    def url(self) -> str:
        """The value of ``DATABASE_URL``: both servers, of which the one that takes rows is used."""
        return url_of(self._servers, self.primary.login)

    def nearest_url_of(self, role: str, password: str) -> str:
        """The same for another role."""
        return url_of(self._servers, f"{quote(role, safe='')}:{password}")

    def start(self) -> None:
        """Start both, and return when commits wait for the standby."""
        self.primary.start()
        if _is_standby(self.primary):  # what promoted it ended before it was done
            self._promote()
        self.follow()

    def promote(self) -> None:
        """Let the standby take rows. The primary must be gone; it never comes back as one."""
        name = self.standby.cluster.parent.name
        half = self._leader.with_suffix(".new")
        write_private(half, name)
        half.replace(self._leader)
        self.primary, self.standby = self.standby, self.primary
        self.is_followed = False
        self._promote()

    def take_over(self) -> str:
        """Go on after the primary's death: on the standby, which has every commit, or else on the primary again."""
        if not self.is_followed or not self.standby.child.is_running:
            self.primary.start()
            return "restarted"
        self.promote()
        try:
            self.follow()
        except ChildFailed as failed:
            return f"the standby leads now, and the former primary does not follow yet: {failed}"
        return "the standby leads now, and the former primary follows it"

    def follow(self) -> None:
        """Start the standby, made anew if it led before, and let commits wait for it."""
        if not _is_standby(self.standby):
            self._copy()
        _configure(self.standby.cluster, self._conninfo())
        self.standby.start()
        deadline = time.monotonic() + FOLLOWS_WITHIN
        while not self.primary.sql("select 1 from pg_stat_replication where state = 'streaming'"):
            if time.monotonic() > deadline:
                raise ChildFailed("postgres", f"the standby did not follow within {FOLLOWS_WITHIN:g} s")
            time.sleep(POLL)
        # The primary remembers it, so it waits from its next start on.
        self.primary.sql(f"alter system set synchronous_standby_names = '{FOLLOWER}'")
        self.primary.sql("select pg_reload_conf()")
        while self.primary.sql("select sync_state from pg_stat_replication") != "sync":
            if time.monotonic() > deadline:
                raise ChildFailed("postgres", f"the standby was not synchronous within {FOLLOWS_WITHIN:g} s")
            time.sleep(POLL)
        self.is_followed = True

    def stop(self) -> None:
        """Stop both: the primary first, which sends the standby all it has."""
        for one in (self.primary, self.standby):
            one.stop()

    def _promote(self) -> None:
        self.primary.sql("select pg_promote()")

    def _conninfo(self) -> str:
        """How the standby finds its primary."""
        return f"{self.primary.url}?application_name={FOLLOWER}"

    def _copy(self) -> None:
        """Make the standby's data directory, which names its primary."""
        home = self.standby.cluster.parent
        home.mkdir(mode=PRIVATE_DIRECTORY, parents=True, exist_ok=True)
        shutil.rmtree(self.standby.cluster, ignore_errors=True)
        half = home / "cluster.new"
        shutil.rmtree(half, ignore_errors=True)
        argv = [
            *(str(self.primary.program("pg_basebackup")), "-D", str(half), "-c", "fast", "-R"),
            *("-d", self.primary.url),
        ]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=COPIED_WITHIN, check=False)
        if done.returncode:
            raise ChildFailed("pg_basebackup", f"failed: {done.stderr.strip()[-300:]}")
        shutil.copy2(self.primary.password_file, self.standby.password_file)
        for path in (self.standby.password_file, half, *half.rglob("*")):
            self.standby.own(path)
        half.rename(self.standby.cluster)  # so half a copy is never taken for a standby, or for a former primary


def _is_standby(server: PostgresServer) -> bool:
    """Whether its cluster follows another server. PostgreSQL removes the file when it is promoted."""
    return (server.cluster / "standby.signal").exists()


def _configure(cluster: Path, conninfo: str) -> None:
    """Name a standby's primary, whose port may be another now. Promoted, it must wait for no standby of its own yet."""
    auto = cluster / "postgresql.auto.conf"
    ours = ("primary_conninfo", "synchronous_standby_names")
    kept = [line for line in auto.read_text().splitlines() if not line.startswith(ours)]
    auto.write_text("\n".join([*kept, f"primary_conninfo = '{conninfo}'", ""]))
