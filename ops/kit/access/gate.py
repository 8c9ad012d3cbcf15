"""The gate of a process: for each request, who sent it, and whether it may pass.

A gate without tokens lets everybody in; host names and origins are checked nevertheless. A change of the tokens is
noticed within ``CHECK_EVERY`` seconds. Then ``generation`` grows, and servers with open streams are notified.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge

from unlost.ops.kit.access.hosts import Hosts
from unlost.ops.kit.access.identity import ANYBODY, Identity, Right
from unlost.ops.kit.access.limits import NONE, Limits, Quota, Quotas
from unlost.ops.kit.access.lockout import Lockout
from unlost.ops.kit.access.request import AccessRequest, Pass, Person, Refusal, credentials_of, too_many
from unlost.ops.kit.access.sender_file import Senders
from unlost.ops.kit.access.sessions import Sessions
from unlost.ops.kit.access.token_file import TokenFile
from unlost.ops.kit.access.watched_file import WatchedFile
from unlost.ops.kit.access.webhook import identity_name
from unlost.ops.kit.telemetry.handshakes import Handshakes
from unlost.ops.kit.telemetry.printable import printable
from unlost.ops.kit.telemetry.tls import ServerTls

CHECK_EVERY = 0.5
LINES_PER_SECOND = 5
LONGEST_SHOWN = 80
REASONS = (
    "credentials",
    "token",
    "locked",
    "right",
    "rate",
    "signature",
    "session",
    "signin",
    "provider",
    "group",
    "host",
    "origin",
    "csrf",
    "handshake",
)
UNLIMITED = Quota(NONE, 0.0)


class Gate:
    """Lets requests of one process pass, or refuses them."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        tokens: TokenFile | None = None,
        senders: WatchedFile[Senders] | None = None,
        hosts: Hosts | None = None,
        group: str | None = None,
        tls: ServerTls | None = None,
        limits: Limits = NONE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``group``: that of the process. An identity of other groups may do nothing here.

        ``limits``: of identities that have none of their own.
        """
        self.tls = tls
        self.handshakes = Handshakes(tls) if tls else None
        """For the servers of this process; None without TLS."""
        self._tokens = tokens
        self._senders = senders
        self.sessions: Sessions | None = None
        """Of people who sign in here; None where they cannot."""
        self._hosts = hosts or Hosts()
        self._group = group
        self._clock = clock
        self.lockout = Lockout(clock)
        self._quotas = Quotas(limits, clock)
        self.generation = 0
        self.on_change: Callable[[], None] = lambda: None
        self._lines: tuple[float, int] = (clock(), 0)
        refused = Counter("unlost_refused_requests_total", "Refused requests by reason", ["reason"], registry=registry)
        self._refused = {reason: refused.labels(reason) for reason in REASONS}
        handshakes = Gauge("unlost_tls_handshakes", "TLS handshakes that are half-done", registry=registry)
        handshakes.set_function(lambda: len(self.handshakes or ()))
        if self.handshakes is not None:
            self.handshakes.dropped = self._refused["handshake"].inc
        unusable = Gauge("unlost_certificate_unusable", "1 while a changed TLS_CERT cannot be used", registry=registry)
        unusable.set_function(lambda: bool(self.tls and self.tls.error))
        unread = Gauge(
            "unlost_tokens_unreadable", "1 while TOKENS_FILE or SENDERS_FILE cannot be used", registry=registry
        )
        unread.set_function(lambda: any(one.error for one in self._files))

    @property
    def _files(self) -> list[WatchedFile[Any]]:
        return [one for one in (self._tokens, self._senders) if one is not None]

    @property
    def senders(self) -> Senders | None:
        """The secrets of those that sign what they publish; None if signatures are not looked at."""
        return None if self._senders is None else self._senders.content

    @property
    def is_open(self) -> bool:
        """Whether no token is needed."""
        return self._tokens is None

    def remarks(self) -> tuple[str, ...]:
        """The remarks for health on tokens and certificate."""
        files = [f"{one.error}; its earlier content stays in use" for one in self._files if one.error]
        tls = f"TLS_CERT {self.tls.error}; the earlier certificate stays in use" if self.tls and self.tls.error else ""
        return tuple(filter(None, (*files, tls)))

    async def watch(self) -> None:
        """Look for changes of the tokens and the certificate, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_EVERY)
            await self.refresh()

    async def refresh(self) -> None:
        """Read again what has changed. Files are read in a thread: they may be large, and their disk may be slow."""
        if self.tls is not None:
            await self._refresh_certificate(self.tls)
        for file in self._files:
            await self._refresh_file(file)

    async def _refresh_file(self, file: WatchedFile[Any]) -> None:
        error = file.error
        if await asyncio.to_thread(file.refresh):
            self.generation += 1
            names = self._tokens.table.names if self._tokens else frozenset[str]()
            self._quotas.keep(names | frozenset(map(identity_name, self.senders or ())))
            structlog.get_logger().info("tokens_changed", tokens=len(names), senders=len(self.senders or ()))
            self.on_change()
        if file.error and file.error != error:
            structlog.get_logger().error("tokens_unreadable", why=file.error)

    async def _refresh_certificate(self, tls: ServerTls) -> None:
        error = tls.error
        if await asyncio.to_thread(tls.refresh):
            structlog.get_logger().info("certificate_changed")
        if tls.error and tls.error != error:
            structlog.get_logger().error("certificate_unusable", why=tls.error)

    def knows_host(self, host: str) -> bool:
        """Whether this is one of our names."""
        return self._hosts.knows(host)

    def identify(
        self, credentials: str, subject: str = "", person: Person | None = None, session: str = ""
    ) -> Identity | None:
        """Return the identity with this token, or else this session or this certificate; None if there is none.

        If it is a proxy that may vouch, return that of the person, whatever else the proxy's token allows.
        """
        if self._tokens is None:
            return ANYBODY
        table = self._tokens.table
        if session and not credentials and self.sessions and (known := self.sessions.person_of(session)):
            return table.of_person(known.user, known.groups, within=self._group)
        found = table.of_token(credentials) if credentials else None
        found = found or (table.of_subject(subject) if subject and not credentials else None)
        if found is None or not found.may("vouch"):
            return found
        if person is None:
            return Identity(f"{found.name} (for nobody)", frozenset())
        return table.of_person(f"{person.user} ({found.name})", person.groups, within=self._group)

    def now(self, one: Pass) -> Identity | None:
        """Return the identity as the present tokens have it; None if it was revoked."""
        return self.identify(one.credentials, one.subject, one.person, one.session)

    def may_go_on(self, one: Pass, right: Right) -> bool:
        """Whether a request that has passed would pass now."""
        now = self.now(one)
        return now is not None and self._may(now, right)

    def _may(self, identity: Identity, right: Right) -> bool:
        return identity.may(right) and (self._group is None or identity.is_of(self._group))

    def quota_of(self, identity: Identity | None) -> Quota:
        """Return what this identity may still use. Without tokens, all clients are one."""
        if identity is None or identity is ANYBODY:
            return UNLIMITED
        return self._quotas.of(identity.name, identity.limits)

    def overdrawn(self, identity: Identity) -> Refusal | None:
        """Refuse an identity that has published too much."""
        seconds = self.quota_of(identity).wait(self._clock())
        return too_many(f"{identity.name} publishes more than its limit", seconds) if seconds > 0 else None

    def admit(self, asked: AccessRequest) -> Pass | Refusal:
        """Decide; a refusal is counted and logged."""
        decided = self._decide(asked)
        if isinstance(decided, Refusal):
            self.refused(asked, decided)
        return decided

    def _decide(self, asked: AccessRequest) -> Pass | Refusal:
        if refusal := self._called_wrongly(asked):
            return refusal
        if len(asked.authorization) > 1:
            return Refusal(400, "credentials", "the header Authorization occurs twice")
        credentials = credentials_of(asked)
        identity = self.identify(credentials, asked.subject, asked.person, asked.session)
        if identity is None:
            return self._unknown(asked, credentials)
        is_of_group = self._group is None or identity.is_of(self._group)
        if asked.right is None:  # a probe: open to everybody, in full to those who may read here
            reader = identity if is_of_group and identity.may("read") else None
            return Pass(reader, credentials, asked.subject, asked.person, asked.session)
        if not is_of_group:
            return Refusal(403, "group", f"{identity.name} may not act in the group {self._group}")
        if not identity.may(asked.right):
            return Refusal(403, "right", f"{identity.name} does not have the right {asked.right}")
        if asked.right == "publish" and (refusal := self.overdrawn(identity)):
            return refusal
        return Pass(identity, credentials, asked.subject, asked.person, asked.session)

    def _called_wrongly(self, asked: AccessRequest) -> Refusal | None:
        host = asked.hosts[0] if asked.hosts else ""
        if len(asked.hosts) > 1:
            return Refusal(400, "host", "the header Host occurs twice")
        if asked.hosts and not asked.any_host and not self._hosts.knows(host):
            return Refusal(
                421,
                "host",
                f"this server does not answer to the name {_shown(host)}; add it to ALLOWED_HOSTS if it should",
            )
        if asked.origin is not None and not asked.own_page and not self._hosts.lets(asked.origin, host):
            return Refusal(403, "origin", f"pages of {_shown(asked.origin)} may not use this server")
        return None

    def _unknown(self, asked: AccessRequest, credentials: str) -> Pass | Refusal:
        if asked.right is None:
            return Pass(None)
        if not credentials and asked.session:
            return Refusal(401, "session", "this session has ended; sign in again")
        if not credentials:
            return Refusal(
                401, "credentials", f"this needs the right {asked.right}: Authorization: Bearer TOKEN",
                (("www-authenticate", 'Bearer realm="unlost"'),),
            )  # fmt: skip
        challenge = 'Bearer realm="unlost", error="invalid_token"'
        why = "this token is unknown or was revoked"
        return self._guessed(asked, Refusal(401, "token", why, (("www-authenticate", challenge),)))

    def _locked(self, asked: AccessRequest) -> Refusal | None:
        seconds = self.lockout.locked_for(asked.address)
        if seconds > 0:
            return too_many("too many wrong tokens or signatures came from your address", seconds, "locked")
        return None

    def _guessed(self, asked: AccessRequest, refusal: Refusal) -> Refusal:
        if locked := self._locked(asked):
            return locked
        self.lockout.failed(asked.address)
        return refusal

    def locked(self, asked: AccessRequest) -> Refusal | None:
        """Refuse a locked address before any of its body is read."""
        if refusal := self._locked(asked):
            self.refused(asked, refusal)
        return refusal

    def guessed(self, asked: AccessRequest, refusal: Refusal) -> Refusal:
        """Count a wrong signature; return how it is refused."""
        decided = self._guessed(asked, refusal)
        self.refused(asked, decided)
        return decided

    def refused(self, asked: AccessRequest, refusal: Refusal) -> None:
        """Count a refusal, and log it unless there are many."""
        self._refused[refusal.reason].inc()
        second, lines = self._lines
        now = self._clock()
        if now - second >= 1.0:
            second, lines = now, 0
        self._lines = second, lines + 1
        if lines < LINES_PER_SECOND:
            what = _shown(asked.what)
            structlog.get_logger().warning(
                "refused", reason=refusal.reason, status=refusal.status, what=what, address=asked.address,
                why=refusal.why,
            )  # fmt: skip


def _shown(text: str) -> str:
    return printable(text[:LONGEST_SHOWN])
