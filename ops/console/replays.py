"""Replays that the console runs: one ``dlq replay`` as a child process per file, followed line by line.

It is a child process because it runs the user's handler: whatever that does, the console continues. The child takes the
same locks as any ``dlq replay``. A cancel is like Ctrl-C: the child finishes work in flight; a second cancel ends it at
once. When the console ends, its replays end too; they can be repeated.
"""

import asyncio
import contextlib
import os
import secrets
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgspec

from unlost.dlq.commands.replay import ReplaySettings
from unlost.dlq.replay.plan import INTERRUPTED, LOCKED
from unlost.listener.app.settings import ListenerSettings
from unlost.ops.console.selecting import Named
from unlost.ops.console.settings import ConsoleSettings
from unlost.ops.kit.command import secret_names
from unlost.ops.kit.command.parent import dies_with_parent
from unlost.ops.kit.telemetry.redact import Redactor
from unlost.ops.system.layout import executable
from unlost.producer.app.settings import ProducerSettings

KEPT = 20
LONGEST_LINE = 16 * 1024 * 1024
SAID = ("error: ", "stopped: ", "interrupted", "finishing ", "warning: ")
END_WITHIN = 10.0
MOST_SHADOWS = 20
OF_SHADOWS = ("letter_id", "event_id", "outcome", "error_type", "message")


SECRETS_OF_OTHERS = secret_names(ConsoleSettings, ListenerSettings, ProducerSettings) - secret_names(ReplaySettings)
"""Environment variables with a secret of the console, a listener or the producer, or with the name of a secret's file.
A replay does not need these."""


MOST_OF_ONE = 1
"""Replays that one identity may run at once, unless its token has a limit."""
MOST_AT_ONCE = 8
"""Of all identities together: each is a process that runs the handler."""


class Busy(Exception):
    """So many replays run already that no more may start."""


class ReplayRequest(Named, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of a replay. Without ids and filters: all waiting letters."""

    rate: float = 0.0
    limit: int = 0
    canary: int = 0
    max_failures: int = 0
    dry_run: bool = False
    shadow: bool = False
    """Only report what today's handler would do."""

    def arguments(self, now: float) -> list[str]:
        """The options as flags of ``dlq replay``."""
        flags = [f"--id={one}" for one in self.ids] + self.flags(now)
        numbers = {"rate": self.rate, "limit": self.limit, "canary": self.canary, "max-failures": self.max_failures}
        shadow = ["--shadow"] if self.shadow else []
        return flags + shadow + [f"--{name}={value}" for name, value in numbers.items() if value]


@dataclass(slots=True)
class Part:
    """The replay of one file, or with an empty name of the fleet's list."""

    file: str
    plan: dict[str, Any] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    exit_code: int | None = None
    said: list[str] = field(default_factory=list)
    shadows: list[dict[str, Any]] = field(default_factory=list)
    """Of a shadow replay: the first letters that would not succeed."""
    shadowed: int = 0
    """How many letters a shadow replay has run."""

    def values(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "file": self.file, "plan": self.plan, "report": self.report, "exit_code": self.exit_code,
            "said": self.said, "shadows": self.shadows,
        }  # fmt: skip


@dataclass(slots=True)
class ReplayRun:
    """One replay of one or several files, one after another."""

    request: ReplayRequest
    parts: list[Part]
    total: int
    replay_id: str = field(default_factory=lambda: secrets.token_hex(6))
    began_at: float = field(default_factory=time.time)
    ended_at: float | None = None
    state: Literal["running", "cancelling", "done", "cancelled", "failed"] = "running"
    child: asyncio.subprocess.Process | None = None
    handler: str | None = None
    """The handler of the listeners, by its name."""
    by: str = ""
    """The identity that started it."""

    @property
    def runs(self) -> bool:
        """Whether it is still running."""
        return self.ended_at is None

    def values(self) -> dict[str, Any]:
        """As plain values."""
        sums = {
            name: sum(part.report.get(name, 0) for part in self.parts)
            for name in ("resolved", "already_stored", "failed", "quarantined")
        }
        return {
            "replay_id": self.replay_id, "request": self.request, "began_at": self.began_at, "ended_at": self.ended_at,
            "state": self.state, "total": self.total,
            "done": sums["resolved"] + sums["failed"] + sum(part.shadowed for part in self.parts), **sums,
            "by": self.by, "parts": [part.values() for part in self.parts],
        }  # fmt: skip


class Replays:
    """The replays of this console. An identity runs few at a time; the latest are remembered."""

    def __init__(self, environment: Mapping[str, str], redactor: Redactor) -> None:
        self._environment = dict(environment)
        self._redactor = redactor
        self._known: list[ReplayRun] = []
        self._tasks: set[asyncio.Task[None]] = set()

    def values(self) -> list[dict[str, Any]]:
        """All remembered replays, the latest first."""
        return [one.values() for one in reversed(self._known)]

    def start(
        self,
        request: ReplayRequest,
        plans: Sequence[Mapping[str, Any]],
        handler: str | None = None,
        by: str = "",
        most: int | None = None,
    ) -> dict[str, Any]:
        """Start a replay. Raises ``Busy``. ``handler``: the listeners'; the console's own setting has precedence.

        ``most``: how many this identity may run at once; 0: any number; None: one.
        """
        self._check_room(by, MOST_OF_ONE if most is None else most)
        parts = [Part(one["file"]) for one in plans if one["letters"]]
        replay = ReplayRun(request, parts, sum(one["letters"] for one in plans), handler=handler, by=by)
        forgotten = [one for one in self._known if not one.runs][: max(0, len(self._known) + 1 - KEPT)]
        self._known = [*(one for one in self._known if one not in forgotten), replay]
        task = asyncio.create_task(self._run(replay), name=f"replay {replay.replay_id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return replay.values()

    def _check_room(self, by: str, most: int) -> None:
        running = [one.by for one in self._known if one.runs]
        if most and (own := running.count(by)) >= most:
            runs = "a replay already, which is its limit" if own == 1 else f"{own} replays already, which is its limit"
            raise Busy(f"{by or 'this console'} runs {runs}; wait for an end, or cancel one")
        if len(running) >= MOST_AT_ONCE:
            raise Busy(f"{len(running)} replays run already, which is this console's limit; wait for an end")

    def cancel(self, replay_id: str) -> dict[str, Any] | None:
        """Let it finish work in flight and end; a second call ends it at once. None if there is no such replay."""
        for one in self._known:
            if one.replay_id == replay_id:
                if one.runs:
                    one.state = "cancelling"
                    _interrupt(one.child)
                return one.values()
        return None

    async def close(self) -> None:
        """End the running replays."""
        for one in self._known:
            if one.runs:
                self.cancel(one.replay_id)
        if not (tasks := {*self._tasks}):
            return
        _, late = await asyncio.wait(tasks, timeout=END_WITHIN)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    async def _run(self, replay: ReplayRun) -> None:
        try:
            for part in replay.parts:
                if replay.state != "running":
                    break
                await self._run_part(replay, part)
        finally:
            replay.ended_at = time.time()
            replay.state = self._ended(replay)

    def _ended(self, replay: ReplayRun) -> Literal["done", "cancelled", "failed"]:
        codes = [part.exit_code for part in replay.parts]
        if replay.state == "cancelling" or INTERRUPTED in codes:
            return "cancelled"
        fine = (0, 1) if replay.request.shadow else (0,)  # that some letters would fail is an answer
        return "done" if all(code in fine for code in codes) else "failed"

    async def _run_part(self, replay: ReplayRun, part: Part) -> None:
        # In its own session, the child does not get a terminal's Ctrl-C: the console cancels it. If the console is
        # killed, the kernel interrupts the child.
        replay.child = child = await asyncio.create_subprocess_exec(
            executable("dlq"), "replay", *filter(None, [part.file]), "--follow", f"--by={replay.by}",
            *replay.request.arguments(replay.began_at),
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
            env=environment_of(os.environ, self._environment, replay.handler), limit=LONGEST_LINE,
            start_new_session=True, preexec_fn=dies_with_parent(signal.SIGINT),
        )  # fmt: skip
        try:
            if replay.state == "cancelling":
                _interrupt(child)
            await asyncio.gather(self._follow(child, part), self._listen(child, part))
            part.exit_code = await child.wait()
        finally:
            replay.child = None
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                await child.wait()
        if part.exit_code == LOCKED and not part.said:
            part.said.append("another replay holds the lock of this file")

    async def _follow(self, child: asyncio.subprocess.Process, part: Part) -> None:
        assert child.stdout is not None
        async for line in child.stdout:
            take_in(part, msgspec.json.decode(line), masks=self._redactor.masks)

    async def _listen(self, child: asyncio.subprocess.Process, part: Part) -> None:
        """Pass sentences for people to the page, and log lines to our own log."""
        assert child.stderr is not None
        async for line in child.stderr:
            text = line.decode(errors="replace").rstrip()
            if text.startswith(SAID):
                part.said.append(text)
            else:
                sys.stderr.write(text + "\n")


def take_in(part: Part, message: dict[str, Any], *, masks: bool) -> None:
    """Enter a line of the child. If fields are masked, drop texts that may quote payloads: each letter has its own."""
    if letter := message.get("letter"):
        part.shadowed += 1
        if letter["outcome"] not in ("succeeds", "stored_already") and len(part.shadows) < MOST_SHADOWS:
            part.shadows.append({name: letter[name] for name in OF_SHADOWS})
        return
    part.plan = message.get("plan", part.plan)
    report = message if "wrote" in message else message.get("progress") or message.get("report")
    if report:
        part.report = {**report, "failures": {}} if masks else report


def environment_of(outer: Mapping[str, str], given: Mapping[str, str], handler: str | None) -> dict[str, str]:
    """The environment of a replay: the console's, without the secrets that only other commands need.

    A replay runs the user's code, so it must not see them. Its handler is the listeners', unless the console has one. A
    replay also reads from files the values that the console read from them, so that no process that the code starts
    inherits them.
    """
    files = {name: path for name, value in given.items() if (path := _file_with(name, value, outer))}
    dropped = SECRETS_OF_OTHERS | {f"{name}_FILE" for name in given}  # a command refuses a secret and its file together
    kept = {name: value for name, value in outer.items() if name.upper() not in dropped}
    values = {name: value for name, value in given.items() if name not in files}
    name, _, version = (handler or "").partition("@")
    theirs = {"HANDLER": name, "HANDLER_VERSION": version} if name and not given.get("HANDLER") else {}
    return {**kept, **values, **{f"{name}_FILE": path for name, path in files.items()}, **theirs}


def _file_with(name: str, secret: str, outer: Mapping[str, str]) -> str | None:
    """The file that holds this secret, if a variable of the environment names one."""
    for variable in (f"REPLAY_{name}_FILE", f"{name}_FILE"):
        if path := outer.get(variable):
            with contextlib.suppress(OSError, UnicodeDecodeError):
                if Path(path).read_text(encoding="utf-8").rstrip("\r\n") == secret:
                    return path
    return None


def _interrupt(child: asyncio.subprocess.Process | None) -> None:
    if child is not None:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(signal.SIGINT)
